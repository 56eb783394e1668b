//! Where the answer is cut, in three languages, however the tokens arrive.

use std::time::{Duration, Instant};

use offhook::sentence::{Cutter, Ends, Options, Piece, Timer};
use proptest::prelude::*;

/// Pieces of a text pushed in parts, written `clause|` and `sentence/`.
fn cut_parts<'a>(parts: impl IntoIterator<Item = &'a str>) -> String {
    let mut cutter = Cutter::new(Options::default());
    let now = Instant::now();
    for part in parts {
        cutter.push(now, part);
    }
    cutter.finish();
    drain(&mut cutter)
}

fn drain(cutter: &mut Cutter) -> String {
    std::iter::from_fn(|| cutter.poll()).map(|piece| written(&piece)).collect()
}

fn written(piece: &Piece) -> String {
    format!("{}{}", piece.text, if piece.ends == Ends::Clause { "|" } else { "/" })
}

fn by_characters(text: &str) -> Vec<&str> {
    text.split("").collect()
}

/// Each is a text with the cuts that are wanted marked in it.
#[track_caller]
fn golden(cases: &[&str]) {
    for case in cases {
        let text: String = case.replace("| ", " ").replace("/ ", " ").replace("/\n", "\n").replace(['|', '/'], "");
        let wanted = case.replace("| ", "|").replace("/ ", "/").replace("/\n", "/");
        assert_eq!(cut_parts([text.as_str()]), wanted);
        assert_eq!(cut_parts(by_characters(&text)), wanted, "character by character");
    }
}

#[test]
fn the_first_clause_comes_alone_and_then_whole_sentences() {
    golden(&[
        "Yes of course,| your order, which left yesterday, comes on Tuesday./ Is there anything else?/",
        "Let me see:| the shop is open./ We close at eight./",
        "It is open — but only today./".replace("— but", "—| but").as_str(),
        "It depends; ask again./".replace("; ask", ";| ask").as_str(),
        "Sure, your order has left./ It comes on Tuesday./",
        "Sure./ Your order comes on Tuesday./",
        "בטח, ההזמנה שלך יצאה אתמול./ היא תגיע ביום שלישי./",
        "כן בהחלט,| ההזמנה שלך, שיצאה אתמול, תגיע מחר./ יש עוד משהו?/",
        "Да, конечно,| ваш заказ, кажется, уже в пути./ Он придёт завтра./",
        "Москва — столица России./ Это большой город./",
    ]);
}

#[test]
fn a_full_stop_behind_an_abbreviation_is_not_an_end() {
    golden(&[
        "Please ask Dr. Smith about it./ He is here./",
        "Mr. and Mrs. Jones vs. the company./ That is all./",
        "The book by J. R. R. Tolkien is here./ It costs ten dollars./",
        "Bring milk, bread, etc. and come back./".replace("milk,", "milk,|").as_str(),
        "We have milk and bread etc./ Come tomorrow./",
        "We open at 9 a.m. on Sundays./ We close at 5 p.m./ Come early./",
        "It left the U.S. yesterday./ It arrives from the U.S./ Tomorrow it is here./",
        "See e.g. the second page./ It is fig. 3 there./ The answer is no./ Really not./",
        "It is no. 5 in the list./ That is fine./",
        "Talk to Smith Inc. about it./ Or to Smith Inc./ They are nice./",
        "דבר עם ד\"ר כהן על זה./ הוא נמצא כאן./",
        "שלח לת.ד. 512 בחיפה./ נחכה למכתב שלך./",
        "רח. הרצל 5 בתל אביב./ זה קרוב לתחנה./",
        "צה\"ל הוא צבא./ המחיר הוא 50 ש\"ח./ זה לא יקר./",
        "Это, т.е. недорого./ Приходите завтра./",
        "Мы находимся в г. Москва на ул. Ленина, д. 5 во дворе./ Приходите завтра./"
            .replace("Ленина,", "Ленина,|")
            .as_str(),
        "Хлеб и молоко и т. д. есть у нас./ Приходите завтра./",
        "Это было в 2024 г./ Мы открылись тогда./ Стоит 500 руб./ Это недорого./",
        "Около 5 тыс. рублей за всё./ Это недорого./",
        "А. С. Пушкин был поэтом./ Проф. Иванов это знает./ Это именно он и я./ Спасибо большое./",
    ]);
}

#[test]
fn numbers_times_and_addresses_stay_whole() {
    assert_eq!(
        cut_parts(["Look at https://www.example.com/a?b=c.d and call. Thank you very much."]),
        "Look at https://www.example.com/a?b=c.d and call./Thank you very much./"
    );
    golden(&[
        "It costs 3.5 dollars or 1,000 shekels./ That is cheap./",
        "We open at 5:30 on the 10.11.2026 in town./ See you then./",
        "Write to info@example.com./ We answer at once./",
        "המחיר 3.5 שקלים בשעה 5:30 בערב./ נתראה בקרוב מאוד./",
        "Цена 3.5 рубля в 5:30 вечера./ До скорой встречи./",
        "The code is version 2.0.1 of it./ It has exactly 5./ Then it has more of it./",
    ]);
}

#[test]
fn a_list_number_belongs_to_its_item() {
    golden(&[
        "1. Milk is in the shop./\n2. Bread is there too./\n10. Butter is not there./",
        "1. חלב טרי בחנות./\n2. לחם טרי בחנות./",
    ]);
}

#[test]
fn sentences_without_a_space_between_them_are_parted() {
    assert_eq!(
        cut_parts(["I am sure.Let me look it up!Then we talk about it."]),
        "I am sure./Let me look it up!/Then we talk about it./"
    );
    assert_eq!(cut_parts(["Ask Node.Js people."]), "Ask Node.Js people./");
}

#[test]
fn quotes_and_brackets_behind_the_end_belong_to_the_sentence() {
    golden(&[
        "He said \"come in.\"/ Then he left us./",
        "It is open (until nine.)/ Then it closes./",
        "Он сказал: «приходите!»/ Потом он ушёл.../".replace("сказал:", "сказал:|").as_str(),
        "הוא אמר \"בוא הנה.\"/ אחר כך הוא הלך./",
        "**It is done.**/ Something else now?/",
        "Really?!/ I would not have thought so!!!/ But fine./",
    ]);
}

#[test]
fn an_ellipsis_ends_a_sentence_only_before_a_new_one() {
    golden(&[
        "Well... let me look at it./ It is here./",
        "I thought so.../ But it is not./ Let me see it…/ Here it is now./",
        "Ну... посмотрим на это./ Хорошо, я думаю.../ Приходите завтра./",
    ]);
}

#[test]
fn short_sentences_are_glued_to_the_next_except_the_first() {
    golden(&["Yes./ It is. It really is so./ No. Not today./ Bye./"]);
}

#[test]
fn a_new_line_always_ends() {
    golden(&["Opening hours/\nMonday to Friday/\n- Nine/\nTo five./"]);
    assert_eq!(cut_parts(["\n\n Hello there \r\n\n  you \n"]), "Hello there/you/");
}

#[test]
fn twelve_words_are_enough_for_the_first_clause_and_it_does_not_end_in_a_weak_word() {
    assert_eq!(
        cut_parts(["We have looked at everything that you sent us last week and the result is good."]),
        "We have looked at everything that you sent us last week|and the result is good./"
    );
    assert_eq!(
        cut_parts(["Мы посмотрели всё что вы прислали нам на прошлой неделе вместе с коллегами из отдела."]),
        "Мы посмотрели всё что вы прислали нам на прошлой неделе вместе|с коллегами из отдела./"
    );
}

#[test]
fn a_very_long_sentence_is_cut_at_a_clause_or_a_space_and_at_worst_anywhere() {
    let clause = format!("Yes./ {}, {}/", "word ".repeat(40).trim(), "next ".repeat(20).trim());
    let pieces = cut_parts([clause.replace('/', "").as_str()]);
    let lengths: Vec<usize> = pieces.split_inclusive(['|', '/']).map(|piece| piece.chars().count()).collect();
    assert_eq!(lengths, [5, 201, 100], "{pieces}");
    let pieces = cut_parts([format!("Yes. {}", "word ".repeat(100)).as_str()]);
    assert!(pieces.split(['|', '/']).all(|piece| piece.len() <= 240 && !piece.ends_with("wo")), "{pieces}");
    let pieces = cut_parts(["x".repeat(1000).as_str()]);
    assert!(pieces.split(['|', '/']).all(|piece| piece.len() <= 240));
    let pieces = cut_parts([format!("Yes. Well{}", ".".repeat(1000)).as_str()]);
    assert!(pieces.split(['|', '/']).all(|piece| piece.len() <= 241));
}

#[test]
fn the_comma_that_completes_the_first_clause_gives_it_at_once() {
    let mut cutter = Cutter::new(Options::default());
    let now = Instant::now();
    cutter.push(now, "Yes of");
    assert_eq!(cutter.poll(), None);
    cutter.push(now, " course,");
    assert_eq!(cutter.poll(), Some(Piece { text: "Yes of course,".into(), ends: Ends::Clause }));
    cutter.push(now, " it is here now. ");
    assert_eq!(cutter.poll(), Some(Piece { text: "it is here now.".into(), ends: Ends::Sentence }));
}

#[test]
fn silence_behind_an_ordinary_word_ends_the_sentence_but_not_behind_a_number_or_abbreviation() {
    let start = Instant::now();
    let idle = start + Duration::from_millis(120);
    for (text, ends) in [
        ("Your order has left.", true),
        ("Has it left?", true),
        ("ההזמנה שלך יצאה.", true),
        ("Ваш заказ уже в пути.", true),
        ("It costs 3.", false),
        ("Please ask Dr.", false),
        ("Write to www.example.", false),
        ("Well I thought..", false),
        ("Your order has left", false),
    ] {
        let mut cutter = Cutter::new(Options { first_wait: Duration::from_secs(9), ..Options::default() });
        cutter.push(start, text);
        assert_eq!(cutter.poll_timeout().filter(|(_, timer)| *timer == Timer::Idle).is_some(), ends, "{text}");
        cutter.handle_timeout(idle - Duration::from_millis(1));
        assert_eq!(cutter.poll(), None);
        cutter.handle_timeout(idle);
        cutter.handle_timeout(idle);
        assert_eq!(drain(&mut cutter), if ends { format!("{text}/") } else { String::new() }, "{text}");
    }
}

#[test]
fn an_overdue_first_clause_is_cut_at_a_word_that_can_stand_at_the_end() {
    let start = Instant::now();
    let late = start + Duration::from_millis(400);
    let mut cutter = Cutter::new(Options::default());
    cutter.push(start, "Your order went to the ");
    assert_eq!(cutter.poll_timeout(), Some((late, Timer::FirstClause)));
    cutter.handle_timeout(late);
    assert_eq!(drain(&mut cutter), "Your order went|");
    assert_eq!(cutter.poll_timeout(), None);
    cutter.push(late, "post office. ");
    assert_eq!(drain(&mut cutter), "to the post office./");

    let mut cutter = Cutter::new(Options::default());
    cutter.push(start, "To");
    cutter.handle_timeout(late);
    assert_eq!(cutter.poll(), None);
    cutter.push(late, " the office of");
    assert_eq!(drain(&mut cutter), "To the office|");
}

#[test]
fn an_answer_cut_off_by_its_limit_ends_with_its_last_whole_sentence() {
    for (text, kept) in [
        (
            "Yes of course, it is here now. It comes on Tuesday. And then we wi",
            "Yes of course,|it is here now./It comes on Tuesday./",
        ),
        ("Yes of course, it is here now. It is. And then we wi", "Yes of course,|it is here now./It is./"),
        ("Yes of course, it is here.", "Yes of course,|it is here./"),
        ("Yes of course, ask Dr.", "Yes of course,|"),
        ("It comes on", ""),
        ("", ""),
    ] {
        let mut cutter = Cutter::new(Options::default());
        cutter.push(Instant::now(), text);
        cutter.finish_at_sentence();
        assert_eq!(drain(&mut cutter), kept, "{text}");
    }
}

const TEXTS: [&str; 4] = [
    "Sure.Let me see, Dr. J. R. Smith vs. the U.S. etc. It costs 3.5 or 1,000 at 5:30 p.m. on www.example.com/a.b?c=D. \
     \"Really?!\" Well... no. 5 of them. Yes. OK.\n1. Milk\n2. Bread. He said (so.) Then it is done — all of it: everything",
    "בטח, דבר עם ד\"ר כהן. המחיר 3.5 ש\"ח, ת.ד. 512. בשעה 5:30! צה\"ל. \"כן.\" ואז... אולי. 1. חלב\nרח. הרצל 5. שלום",
    "Да, конечно, т.е. недорого. В 2024 г. Мы и т. д. открылись на ул. Ленина, д. 5. Стоит 500 руб. за 5 тыс. Проф. А. С. Иванов! «Да.» Ну... вот",
    "word word word word word word word word word word word word word word word word word word word word word word word word \
     word word word word word word word word word word word word word word word word word word word word word word word word, word word",
];

/// What is said, without white space: nothing may be lost or doubled.
fn bare(text: &str) -> String {
    text.chars().filter(|c| !c.is_whitespace()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_pieces_are_the_same_however_the_tokens_are_cut(which in 0..TEXTS.len(), sizes in prop::collection::vec(1usize..12, 1..200)) {
        let text = TEXTS[which];
        let characters: Vec<char> = text.chars().collect();
        let mut parts: Vec<String> = Vec::new();
        let mut at = 0;
        for size in sizes.iter().cycle() {
            if at >= characters.len() { break; }
            let end = (at + size).min(characters.len());
            parts.push(characters[at..end].iter().collect());
            at = end;
        }
        prop_assert_eq!(cut_parts(parts.iter().map(String::as_str)), cut_parts([text]));
    }

    #[test]
    fn any_text_is_given_back_whole_in_bounded_pieces(text in "([a-zA-Zа-яА-Яא-ת0-9]{0,9}[ .,!?…:;\"'()\n—-]{0,3}){0,80}", at in 0usize..400) {
        let at = text.char_indices().nth(at).map_or(text.len(), |(n, _)| n);
        let mut cutter = Cutter::new(Options::default());
        let now = Instant::now();
        cutter.push(now, &text[..at]);
        cutter.handle_timeout(now + Duration::from_millis(500));
        cutter.push(now + Duration::from_millis(600), &text[at..]);
        cutter.finish();
        let pieces: Vec<Piece> = std::iter::from_fn(|| cutter.poll()).collect();
        let joined: String = pieces.iter().map(|piece| piece.text.as_str()).collect();
        prop_assert_eq!(bare(&joined), bare(&text));
        prop_assert!(pieces.iter().all(|piece| !piece.text.is_empty() && piece.text.chars().count() <= 260));
    }
}
