//! Named clients: the number of their settled lines, written in the transaction of the lines.

use super::ledger::Db;
use crate::db::Error;
use crate::db::Value;
use crate::reading::{Batch, Mark};
use crate::sys::{self, Clock};

impl Db {
    pub(super) fn settle_clients(&mut self, batch: &Batch) -> Result<(), Error> {
        for client in batch.clients() {
            let values = [
                Some(Value::Text(&client.name)),
                Some(Value::Integer(client.lines as i64)),
                Some(Value::Integer(sys::clock_ns(Clock::Real))),
            ];
            self.raw
                .run("settle a client in", self.statements.set_client, &values)?;
        }
        Ok(())
    }

    pub(super) fn resumes(&mut self, batch: &Batch) -> Result<Vec<Mark>, Error> {
        let mut resumes = Vec::new();
        for hello in batch.hellos() {
            let name = [Some(Value::Text(&hello.name))];
            let statement = self.statements.get_client;
            let lines = self.raw.query("look up a client in", statement, &name)?;
            resumes.push(Mark {
                stream: hello.stream,
                lines: lines.unwrap_or(0).max(0) as u64,
            });
        }
        Ok(resumes)
    }
}
