//! The operators' page says what the code does.

use std::path::Path;

#[test]
fn the_operators_page_lists_each_api_as_the_code_does() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../OPERATING.md");
    let page = std::fs::read_to_string(&path).expect("the operators' page");
    let mut expected = page.clone();
    for (name, table) in [("apis", router::apis::markdown()), ("tenant-apis", router::tenant::rules::markdown())] {
        let (begin, end) = (format!("<!-- {name} -->\n"), format!("<!-- /{name} -->"));
        let (before, rest) = expected.split_once(&begin).expect("a place for the table");
        let (_, after) = rest.split_once(&end).expect("its end");
        expected = [before, &begin, &table, &end, after].concat();
    }
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(&path, expected).expect("written");
        return;
    }
    assert!(page == expected, "UPDATE_EXPECT=1 cargo test -p kproxy --test operating writes it anew");
}
