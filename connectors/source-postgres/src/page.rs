//! first cut
/// A mark.
#[derive(Debug, Clone)]
pub(crate) struct Mark;
impl Mark {
    pub(crate) fn parse(_prefix: &[u8], _content: &[u8]) -> Option<Self> {
        None
    }
}
