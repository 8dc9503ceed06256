//! x
use crate::config::KafkaLogConfig;
use rollcall_model::Fault;
#[derive(Debug)]
pub struct KafkaGroup;
impl KafkaGroup {
    pub(crate) fn join(_c: &KafkaLogConfig, _w: &str) -> Result<Self, Fault> {
        Ok(Self)
    }
}
