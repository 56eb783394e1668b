//! Who calls in the benches on the wire.

/// What callers say, by the voices of espeak-ng; Hebrew as phonemes, because espeak-ng 1.51 cannot read it.
pub const QUESTIONS: [(&str, &str); 6] = [
    ("en-us", "Good morning, are you open on Friday afternoon?"),
    ("he", "[[Sal'om _: ha?'im ?at'em ptuX'im bej'om SiS'i]]"),
    ("ru", "Доброе утро, вы работаете в пятницу?"),
    ("en-us+f3", "Could you tell me how I find you, please?"),
    ("he+f2", "[['ejX ?an'i mag'i?a ?elejX'em bevakaS'a]]"),
    ("ru+m3", "Сколько это стоит?"),
];
