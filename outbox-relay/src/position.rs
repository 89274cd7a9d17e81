//! Which of two positions is further: after a crash between Kafka's commit and the cursor's move, Kafka knows better.

use crate::cursor::{Cursor, Snapshot, Within};

/// Snapshots that were taken one after the other on one cluster order by these: neither end ever goes back, and between
/// the same ends transactions only leave. None where the text is no snapshot.
fn age(snapshot: &Snapshot) -> Option<(u64, u64, i64)> {
    let mut parts = snapshot.as_str().split(':');
    let xmin = parts.next()?.parse().ok()?;
    let xmax = parts.next()?.parse().ok()?;
    let open = parts.next()?.split(',').filter(|xid| !xid.is_empty()).count();
    Some((xmax, xmin, -i64::try_from(open).ok()?))
}

/// Whether `other` lies beyond `this`. Both must be of the same shard, cluster and timeline, and no verb between them.
pub fn is_beyond(other: &Cursor, this: &Cursor) -> bool {
    match (age(&other.acked), age(&this.acked)) {
        (Some(other), Some(this)) if other != this => return other > this,
        (Some(_), Some(_)) => {}
        _ => return false,
    }
    match (&other.within, &this.within) {
        (Some(_), None) => true,
        (Some(other), Some(this)) => inside(other) > inside(this),
        (None, _) => false,
    }
}

fn inside(within: &Within) -> (Option<(u64, u64, i64)>, i64) {
    (age(&within.target), within.sent_seq)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(acked: &str, within: Option<(&str, i64)>) -> Cursor {
        let within =
            within.map(|(target, sent_seq)| Within { target: target.to_owned().into(), sent_seq });
        Cursor { acked: acked.to_owned().into(), within }
    }

    #[test]
    fn positions_are_ordered_as_they_follow_each_other() {
        let way = [
            at("10:20:11,12", None),
            at("10:20:12", None),
            at("12:20:12", None),
            at("12:20:12", Some(("25:30:25", 7))),
            at("12:20:12", Some(("25:30:25", 8))),
            at("25:30:25", None),
            at("30:30:", None),
            at("30:30:", Some(("100:100:", 9))),
        ];
        for (index, this) in way.iter().enumerate() {
            for (other_index, other) in way.iter().enumerate() {
                assert_eq!(is_beyond(other, this), other_index > index, "{other:?} {this:?}");
            }
        }
    }

    #[test]
    fn what_is_no_snapshot_is_never_beyond() {
        assert!(!is_beyond(&at("nonsense", None), &at("1:1:", None)));
    }
}
