//! Which run a reading belongs to: the last run that began at or before its id. Pure; `read` fills it.

/// The runs of a database, by the first of their ids.
#[derive(Debug, Default)]
pub(super) struct Runs {
    /// First id, run, and the place of its device, ascending.
    by_first_id: Vec<(i64, i64, usize)>,
    /// Ids that the device had: more than one where the file came to another machine.
    devices: Vec<String>,
    newest: i64,
    /// Run of the last lookup, and the first id after that run.
    current: i64,
    current_device: usize,
    until_id: i64,
}

impl Runs {
    /// To be followed by `sort`.
    pub fn add(&mut self, run: i64, first_id: i64, device: &str) {
        if self.devices.last().is_none_or(|last| last != device) {
            self.devices.push(device.to_owned());
        }
        let place = self.devices.len() - 1;
        self.by_first_id.push((first_id, run, place));
        self.newest = self.newest.max(run);
    }

    pub fn sort(&mut self) {
        self.by_first_id.sort_unstable();
    }

    pub fn is_empty(&self) -> bool {
        self.by_first_id.is_empty()
    }

    pub fn newest(&self) -> i64 {
        self.newest
    }

    /// The run of a reading. The ids of successive calls ascend, or `forget` is called in between.
    pub fn run_of(&mut self, id: i64) -> Option<i64> {
        if id >= self.until_id {
            let next = self.by_first_id.partition_point(|(first, ..)| *first <= id);
            let (_, run, device) = *self.by_first_id.get(next.checked_sub(1)?)?;
            (self.current, self.current_device) = (run, device);
            let after = self.by_first_id.get(next);
            self.until_id = after.map_or(i64::MAX, |(first, ..)| *first);
        }
        Some(self.current)
    }

    /// Device in the run of the last lookup.
    pub fn device(&self) -> &str {
        self.devices
            .get(self.current_device)
            .map_or("", |device| device)
    }

    pub fn device_of(&self, run: i64) -> Option<&str> {
        let (.., place) = self.by_first_id.iter().find(|(_, of, _)| *of == run)?;
        self.devices.get(*place).map(String::as_str)
    }

    /// Forgets the last lookup.
    pub fn forget(&mut self) {
        self.until_id = i64::MIN;
    }

    /// The lowest id with which a later run began.
    pub fn first_id_after(&self, run: i64) -> Option<i64> {
        let later = self.by_first_id.iter().filter(|(_, later, _)| *later > run);
        later.map(|(first_id, ..)| *first_id).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reading_belongs_to_the_last_run_that_began_at_or_before_its_id() {
        let mut runs = Runs::default();
        assert_eq!(runs.run_of(1), None);
        // Run 2 recorded nothing that lasted; run 4 numbers anew what a power cut took from run 3.
        for (run, first_id) in [(1, 5), (2, 9), (3, 9), (4, i64::MAX)] {
            runs.add(run, first_id, if run < 3 { "a" } else { "b" });
        }
        runs.sort();
        runs.forget();
        let of = [4, 5, 8, 9, i64::MAX - 1, i64::MAX].map(|id| runs.run_of(id));
        assert_eq!(of, [None, Some(1), Some(1), Some(3), Some(3), Some(4)]);
        runs.forget();
        assert_eq!(runs.run_of(6), Some(1));
        assert_eq!(runs.device(), "a");
        assert_eq!(runs.device_of(3), Some("b"));
        assert_eq!(runs.device_of(5), None);
        assert_eq!(runs.newest(), 4);
        assert_eq!(runs.first_id_after(1), Some(9));
        assert_eq!(runs.first_id_after(4), None);
    }
}
