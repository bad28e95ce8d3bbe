//! What any text is shown as, and what the page sums.

use std::f64::consts::LN_2;

use super::*;

/// Returns a token with these bits.
fn token(text: &str, bits: Option<f64>, reset_bits: Option<f64>) -> ScoredToken {
    let nats = |bits: Option<f64>| bits.map(|bits| bits * LN_2);
    ScoredToken { text: text.to_owned(), nats: nats(bits), reset_nats: nats(reset_bits) }
}

fn document(name: &str, tokens: Vec<ScoredToken>) -> ScoredDocument {
    ScoredDocument { name: name.to_owned(), tokens, num_bytes: 4, num_words: 2 }
}

#[test]
fn no_text_is_markup() {
    let evil = "</script><script>alert(1)</script>&amp;<!--\"'";
    let tokens =
        vec![token(evil, Some(3.1), Some(4.2)), token("<i>", None, None), token("&", Some(0.), None)];
    let page = heatmap_html(evil, evil, &[document(evil, tokens.clone()), document("d", tokens)]);
    assert!(!page.contains("<script>alert") && !page.contains("<!--") && !page.contains("<i><i>"));
    // Two blocks of numbers and the script of the page.
    assert_eq!((page.matches("<script").count(), page.matches("</script").count()), (3, 3));
    let escaped = "&lt;/script&gt;&lt;script&gt;alert(1)&lt;/script&gt;&amp;amp;&lt;!--&quot;'";
    assert!(page.contains(&format!("<h1>{escaped}</h1>\n<p class=model>{escaped}</p>")));
    assert!(
        page.contains(&format!(
            "<i class=\"a4 b5 g2\">{escaped}</i><i class=u>&lt;i&gt;</i><i>&amp;</i></div>"
        ))
    );
}

#[test]
fn white_space_stays_and_control_characters_are_seen() {
    assert_eq!(visible("a\n\tb  c\r\0\u{1B}\u{7F}\u{85}é\u{2028}"), "a\n\tb  c␍␀␛␡\u{FFFD}é\u{2028}");
    let page = heatmap_html("t", "m", &[document("d", vec![token("\n\n", Some(1.), None)])]);
    assert!(page.contains("<i class=\"a2 n\">\n\n</i>"));
}

#[test]
fn sums_are_of_what_was_predicted() {
    let tokens =
        vec![token("a", None, Some(9.)), token("b", Some(2.), Some(3.)), token("c", Some(4.), Some(5.))];
    let whole = document("d", tokens);
    assert_eq!(whole.num_scored(), 2);
    assert!((whole.total_bits() - 6.).abs() < 1e-12);
    assert!((whole.total_reset_bits().unwrap_or_default() - 8.).abs() < 1e-12);
    assert_eq!(whole.tokens[0].gain_bits(), None);
    assert!((whole.tokens[1].gain_bits().unwrap_or_default() - 1.).abs() < 1e-12);
    let summary = sentence(&whole, Views::WithReset);
    let expected = "<b>1.500</b> bits/byte with state</span> <span><b>2.000</b> without</span> \
                    <span>the state saves <b>25.0\u{202f}%</b></span> <span>2 tokens</span>";
    assert!(summary.contains(expected), "{summary}");
    let page = heatmap_html("t", "m", &[whole]);
    assert!(page.contains("{\"state\":[null,2,4],\"reset\":[9,3,5]}"));
}

#[test]
fn what_is_missing_is_not_a_number_and_not_a_zero() {
    let partly = document("d", vec![token("a", Some(2.), Some(3.)), token("b", Some(4.), None)]);
    assert_eq!(partly.total_reset_bits(), None);
    assert!(sentence(&partly, Views::WithReset).contains("<b>–</b> without"));
    let broken = [f64::NAN, f64::INFINITY].map(|bits| token("x", Some(bits), Some(1.)));
    let empty = ScoredDocument { num_bytes: 0, ..document("e", vec![]) };
    let page = heatmap_html("t", "m", &[document("d", broken.to_vec()), empty, partly]);
    assert!(
        page.contains("{\"state\":[null,null],\"reset\":[1,1]}")
            && page.contains("{\"state\":[],\"reset\":[]}")
    );
    let text =
        page.split("<style>").next().into_iter().chain(page.split("</style>").nth(1)).collect::<String>();
    let text = text.split("<script>").next().unwrap_or_default();
    assert!(!text.contains("NaN") && !text.contains("inf"), "{text}");
}

#[test]
fn views_that_have_no_numbers_are_not_offered() {
    let page = |reset| heatmap_html("t", "m", &[document("d", vec![token("a", Some(2.), reset)])]);
    assert_eq!(page(None).matches("type=radio").count(), 0);
    assert_eq!(page(Some(2.)).matches("type=radio").count(), 3);
    assert!(!page(None).contains("\"reset\""));
    assert!(heatmap_html("t", "m", &[]).ends_with("</html>\n"));
}

#[test]
fn a_long_text_is_a_few_megabytes_in_blocks() {
    let line = ["the", " cat", " sat", "\n"].map(|text| token(text, Some(3.7), Some(1.23)));
    let tokens = line.iter().cycle().take(100_000).cloned().collect();
    let page = heatmap_html("t", "m", &[document("d", tokens)]);
    assert!(page.len() < 6_000_000, "{}", page.len());
    assert_eq!(page.matches("<div data-start=").count(), 500);
    assert!(page.contains("</div><div data-start=200><i"));
}

#[test]
fn a_line_without_end_goes_on_in_another_block() {
    let starts = |text: &str, num_tokens: usize| -> Vec<usize> {
        let (mut rest, mut at) = (vec![token(text, None, None); num_tokens], 0);
        let next = || {
            let len = Some(block_len(&rest)).filter(|&len| len > 0)?;
            rest.drain(..len);
            at += len;
            Some(at)
        };
        std::iter::from_fn(next).collect()
    };
    assert_eq!(starts("a", 8000), [8000]);
    assert_eq!(starts("a", 17_000), [8000, 16_000, 17_000]);
    assert_eq!(starts(" a", 9000), [4000, 8000, 9000]);
    assert_eq!(starts("a\n", 500), [200, 400, 500]);
    let page = heatmap_html("t", "m", &[document("d", vec![token(" a", None, None); 4001])]);
    assert!(page.contains("</i></div><div class=on data-start=4000><i class=u> a</i></div>"));
}
