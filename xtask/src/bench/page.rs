//! The page.
use super::report::Report;

pub(super) fn render(_report: &Report) -> String {
    String::new()
}
