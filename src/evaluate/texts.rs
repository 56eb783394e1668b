//! What the callers of the corpus say, in each language, and with which voices of espeak-ng.
//!
//! Hebrew is written in espeak-ng's phonemes, because version 1.51 reads neither unpointed nor fully pointed Hebrew. No text has a comma: every
//! pause of the corpus is one that the corpus makes.

use crate::config::Language;

/// What there is to say in one language.
pub(super) struct Texts {
    /// Voices of espeak-ng: men, women, accents.
    pub(super) voices: &'static [&'static str],
    /// Sentences in two halves, between which a caller thinks.
    pub(super) halves: &'static [[&'static str; 2]],
    /// Sentences without a pause.
    pub(super) whole: &'static [&'static str],
    /// Answers of a word.
    pub(super) short: &'static [&'static str],
    /// Zero to nine.
    pub(super) digits: [&'static str; 10],
    /// How a number that is dictated begins.
    pub(super) number_is: &'static str,
    /// Sounds of somebody who searches for a word.
    pub(super) hesitations: &'static [&'static str],
    /// Whether the texts are phonemes.
    phonemes: bool,
}

impl Texts {
    /// A text as espeak-ng takes it.
    pub(super) fn written(&self, text: &str) -> String {
        if self.phonemes { format!("[[{text}]]") } else { text.to_owned() }
    }
}

/// The texts of a language.
pub(super) fn of(language: Language) -> &'static Texts {
    match language {
        Language::En => &ENGLISH,
        Language::He => &HEBREW,
        Language::Ru => &RUSSIAN,
    }
}

static ENGLISH: Texts = Texts {
    voices: &["en-us", "en-gb", "en-us+f3", "en-gb-scotland", "en-gb+m3", "en-us+f4"],
    halves: &[
        ["I would like to book a table", "for two people tonight"],
        ["Could you tell me", "what time you close on Friday"],
        ["I am calling because", "my order has not arrived"],
        ["I need an appointment with", "doctor Miller on Tuesday"],
        ["We are looking for a room", "with a view of the sea"],
        ["My address is", "twelve Garden Street on the second floor"],
        ["Can you send the invoice to", "the office in Manchester"],
        ["It stopped working yesterday", "after I had cleaned it"],
        ["Please tell him that", "I will be half an hour late"],
        ["The one that I want is", "the large one in blue"],
    ],
    whole: &[
        "What time do you close on Fridays",
        "How much is the large one",
        "I would like to speak to a person please",
        "Is there parking near the shop",
        "Can I change my appointment to Monday",
        "Do you deliver to the north of the city",
    ],
    short: &["Yes", "No", "Thank you", "Tomorrow", "That's right", "Okay"],
    digits: ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"],
    number_is: "My number is",
    hesitations: &["uh", "um", "well"],
    phonemes: false,
};

static HEBREW: Texts = Texts {
    voices: &["he", "he+f2", "he+m3", "he+f4", "he+m6"],
    halves: &[
        ["?an'i Q\"ots'e lehazm'in", "mon'it lemaX'aQ\" bab'okeQ\""],
        ["?efS'aQ\" lad'a?at", "b'e?ejzo Sa?'a ?at'em sogQ\"'im"],
        ["?an'i mitkaS'eQ\"et ki", "hahazman'a lo hig'i?a"],
        ["?an'i tsaQ\"'iX toQ\" le", "d'oktoQ\" lev'i bej'om SliS'i"],
        ["?an'aXnu meXaps'im X'edeQ\"", "?im nof laj'am"],
        ["hakt'ovet Sel'i hi", "Q\"eX'ov heQ\"ts'el Snejm ?as'aQ\""],
        ["tuXl'i liSl'oaX ?et haXeSbon'it", "lamisQ\"'ad betel ?av'iv"],
        ["ze hifs'ik la?av'od ?etm'ol", "?aXaQ\"'ej Senik'iti ?ot'o"],
        ["tag'id lo bevakaS'a Se", "?an'i ?e?aX'eQ\" beXats'i Sa?'a"],
        ["ma Se?an'i Q\"ots'a ze", "hagad'ol haj'aQ\"ok"],
    ],
    whole: &[
        "ma S?ot haptiX'a SelaX'em",
        "k'ama ze ?ol'e",
        "?an'i Q\"ots'e ledab'eQ\" ?im ben ?ad'am",
        "jeS Xanaj'a lej'ad haXan'ut",
        "?efS'aQ\" leSan'ot ?et hat'oQ\" lej'om Sen'i",
        "?at'em ?os'im miSloX'im latsaf'on",
    ],
    short: &["ken", "lo", "tod'a", "maX'aQ\"", "naX'on", "bes'edeQ\""],
    digits: ["?'efes", "?aX'at", "St'aim", "Sal'oS", "?aQ\"b'a", "Xam'eS", "SeS", "S'eva", "Sm'one", "t'eSa"],
    number_is: "hamisp'aQ\" Sel'i hu",
    hesitations: &["?e:", "?em:", "?'az"],
    phonemes: true,
};

static RUSSIAN: Texts = Texts {
    voices: &["ru", "ru+f2", "ru+m3", "ru+f4", "ru+m6"],
    halves: &[
        ["Я хотел бы записаться", "на завтра на десять утра"],
        ["Скажите пожалуйста", "до скольки вы работаете в пятницу"],
        ["Я звоню потому что", "мой заказ до сих пор не пришёл"],
        ["Мне нужно попасть к", "доктору Иванову во вторник"],
        ["Мы ищем номер", "с видом на море"],
        ["Мой адрес", "Садовая улица дом двенадцать"],
        ["Можно отправить счёт в", "наш офис в Петербурге"],
        ["Он вчера перестал работать", "после того как я его помыл"],
        ["Передайте ему что", "я опоздаю на полчаса"],
        ["Я хочу заказать", "большую пиццу без грибов"],
    ],
    whole: &[
        "До скольки вы работаете в пятницу",
        "Сколько это стоит",
        "Соедините меня с человеком",
        "Есть ли парковка около магазина",
        "Можно перенести запись на понедельник",
        "Вы доставляете в северный район",
    ],
    short: &["Да", "Нет", "Спасибо", "Завтра", "Верно", "Хорошо"],
    digits: ["ноль", "один", "два", "три", "четыре", "пять", "шесть", "семь", "восемь", "девять"],
    number_is: "Мой номер",
    hesitations: &["эээ", "ну", "ммм"],
    phonemes: false,
};
