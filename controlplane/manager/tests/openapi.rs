//! The description of the API: complete, and the same as last time unless somebody meant to change it
//! (`UPDATE_EXPECT=1` rewrites the golden file).

use expect_test::expect_file;
use model::api_doc::mistakes;

#[test]
fn every_endpoint_is_described_without_mistakes() {
    let endpoints = manager::endpoints();
    assert_eq!(mistakes(&endpoints.iter().collect::<Vec<_>>()), Vec::<String>::new());
}

#[test]
fn the_document_is_the_golden_one() {
    let document = manager::openapi_json(&manager::endpoints(), "0.0.0");
    expect_file!["openapi.golden.json"].assert_eq(&format!("{document}\n"));
}
