//! Pictures in, out, and dropped by reason, per camera.

use flow::{Counter, Flow};

use crate::select::Reason;

/// One camera's counters.
#[derive(Debug, Default)]
pub(crate) struct Account {
    received: Counter,
    passed: Counter,
    dropped: [Counter; Reason::ALL.len()],
}

impl Account {
    pub(crate) fn received(&self) {
        self.received.add(1);
    }

    pub(crate) fn passed(&self) {
        self.passed.add(1);
    }

    pub(crate) fn dropped(&self, reason: Reason) {
        self.dropped[reason as usize].add(1);
    }

    pub(crate) fn flow(&self) -> Flow {
        let dropped = Reason::ALL.iter().zip(&self.dropped).map(|(r, n)| (r.name(), n.get())).collect();
        let passed = self.passed.get();
        // Read last, so that a picture under way is inside the stage and never missing from `received`.
        Flow { received: self.received.get(), passed, dropped }
    }
}

/// The sum over all cameras.
pub(crate) fn total<'a>(accounts: impl Iterator<Item = &'a Account>) -> Flow {
    let none = Account::default().flow();
    accounts.map(Account::flow).fold(none, |mut sum, one| {
        sum.received += one.received;
        sum.passed += one.passed;
        for (total, (_, n)) in sum.dropped.iter_mut().zip(one.dropped) {
            total.1 += n;
        }
        sum
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_add_up_by_reason() {
        let (a, b) = (Account::default(), Account::default());
        for account in [&a, &a, &b] {
            account.received();
        }
        a.passed();
        a.dropped(Reason::TooSoon);
        b.dropped(Reason::TooSoon);
        let sum = total([&a, &b].into_iter());
        assert_eq!((sum.received, sum.passed, sum.inside()), (3, 1, 0));
        assert_eq!(sum.dropped.iter().find(|(name, _)| *name == "too_soon"), Some(&("too_soon", 2)));
    }
}
