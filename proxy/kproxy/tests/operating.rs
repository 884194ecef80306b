//! The operators' page says what the code does.

use std::path::Path;

const BEGIN: &str = "<!-- apis -->\n";
const END: &str = "<!-- /apis -->";

#[test]
fn the_operators_page_lists_each_api_as_the_code_does() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../OPERATING.md");
    let page = std::fs::read_to_string(&path).expect("the operators' page");
    let (before, rest) = page.split_once(BEGIN).expect("a place for the table");
    let (table, after) = rest.split_once(END).expect("its end");
    let expected = router::apis::markdown();
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(&path, [before, BEGIN, &expected, END, after].concat()).expect("written");
        return;
    }
    assert!(table == expected, "UPDATE_EXPECT=1 cargo test -p kproxy --test operating writes it anew");
}
