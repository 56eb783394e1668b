//! What the simulator says: written beforehand, true of a test line, and nothing about a caller.

use crate::config::Language;

const EN: [&str; 6] = [
    "Good day, this is a test line. You are talking to a simulator, and its answers were written before you called.",
    "Of course, your voice arrived here. A script is answering, so the words are the same whatever you ask.",
    "Good question, but this line knows nothing about real orders or real people. It only shows how soon an answer can start.",
    "All right, here is the next one. Each answer reaches the telephone piece by piece, the way a language model writes it.",
    "Yes please, interrupt me at any time. If this line works as it should, I fall silent as soon as you speak.",
    "Thank you very much, this is the last line of the script. After this it begins again.",
];

const HE: [&str; 6] = [
    "שלום וברכה, זה קו בדיקה. עונה לכם סימולטור, וכל התשובות שלו נכתבו מראש.",
    "כן, בטח, הקול שלכם הגיע לכאן. עונה תסריט, ולכן המילים לא תלויות בשאלה.",
    "שאלה טובה, אבל הקו הזה לא יודע דבר על הזמנות או על אנשים אמיתיים. הוא רק מראה כמה מהר מתחילה תשובה.",
    "בסדר גמור, הנה התשובה הבאה. היא מגיעה לטלפון חלק אחר חלק, כמו שמודל שפה כותב אותה.",
    "כן, בבקשה, אפשר לקטוע אותי בכל רגע. אם הקו עובד כמו שצריך, אשתוק מיד.",
    "תודה רבה, זאת השורה האחרונה בתסריט. אחריה הוא מתחיל מחדש.",
];

const RU: [&str; 6] = [
    "Добрый день, это проверочная линия. Вам отвечает имитатор, и все его ответы написаны заранее.",
    "Да, конечно, ваш голос дошёл сюда. Отвечает сценарий, поэтому слова не зависят от вопроса.",
    "Хороший вопрос, но эта линия ничего не знает о настоящих заказах и людях. Она только показывает, как скоро начинается ответ.",
    "Хорошо, продолжаю, вот следующий ответ. Он приходит в телефон по частям, так же, как его пишет языковая модель.",
    "Да, пожалуйста, перебивайте в любой момент. Если линия работает как надо, я сразу замолчу.",
    "Большое спасибо, это последняя строка сценария. После неё он начнётся сначала.",
];

/// All answers in a language, in their order.
pub fn answers(language: Language) -> &'static [&'static str] {
    match language {
        Language::En => &EN,
        Language::He => &HE,
        Language::Ru => &RU,
    }
}

/// The answer to the caller's turn with this number, from 1; they begin again after the last.
pub(super) fn answer(language: Language, turn: usize) -> &'static str {
    let answers = answers(language);
    answers[turn.saturating_sub(1) % answers.len()]
}

/// Cuts a text into pieces of about a token: three to five letters, never across the beginning of a word.
pub(super) fn tokens(text: &str, rng: &mut fastrand::Rng) -> Vec<String> {
    let mut tokens: Vec<String> = Vec::new();
    let mut room = 0;
    for letter in text.chars() {
        if room == 0 || letter.is_whitespace() {
            tokens.push(String::new());
            room = rng.usize(3..=5);
        }
        tokens.last_mut().expect("a token was just begun").push(letter);
        room -= 1;
    }
    tokens
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_go_round_and_differ() {
        for language in Language::ALL {
            assert!(answers(language).len() >= 6);
            assert_eq!(answer(language, 1), answers(language)[0]);
            assert_eq!(answer(language, 7), answers(language)[0]);
            assert_ne!(answer(language, 1), answer(language, 2));
        }
    }

    #[test]
    fn every_answer_begins_with_a_short_clause_and_has_two_sentences_at_most() {
        for text in Language::ALL.into_iter().flat_map(answers) {
            let head: Vec<&str> = text.split([',', '.']).take(2).collect();
            assert!((2..=5).contains(&head.join(" ").split_whitespace().count().min(5)), "{text}");
            assert!(head[0].split_whitespace().count() <= 5, "{text}");
            assert!(text.matches('.').count() <= 2 && text.ends_with('.'), "{text}");
        }
    }

    #[test]
    fn tokens_make_up_the_text_and_the_seed_decides_them() {
        let text = answers(Language::He)[0];
        let cut = |seed| tokens(text, &mut fastrand::Rng::with_seed(seed));
        assert_eq!(cut(1).concat(), text);
        assert!(cut(1).iter().all(|token| (1..=5).contains(&token.chars().count())));
        assert_eq!(cut(1), cut(1));
        assert_ne!(cut(1), cut(2));
    }
}
