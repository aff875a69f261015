//! Named clients: the number of their settled lines, written in the transaction of the lines.

use super::ledger::Db;
use crate::db::Error;
use crate::db::SqlValue;
use crate::reading::{Batch, Resumed};

impl Db {
    pub(super) fn settle_clients(&mut self, batch: &Batch) -> Result<(), Error> {
        for client in batch.clients() {
            let values = [
                Some(SqlValue::Text(&client.name)),
                Some(SqlValue::Integer(client.lines as i64)),
                Some(SqlValue::Integer(self.age.times().seen_ns)),
                client.uid.map(|uid| SqlValue::Integer(uid.into())),
            ];
            self.raw
                .run("settle a client in", self.statements.set_client, &values)?;
        }
        Ok(())
    }

    pub(super) fn resumes(&mut self, batch: &Batch) -> Result<Vec<Resumed>, Error> {
        let mut resumes = Vec::new();
        for hello in batch.hellos() {
            let uid = hello.uid.map(|uid| SqlValue::Integer(uid.into()));
            let values = [Some(SqlValue::Text(&hello.name)), uid];
            let statement = self.statements.get_client;
            let lines = self.raw.query("look up a client in", statement, &values)?;
            resumes.push(Resumed {
                stream: hello.stream,
                // Negative: another user's.
                lines: u64::try_from(lines.unwrap_or(0)).ok(),
            });
        }
        Ok(resumes)
    }
}
