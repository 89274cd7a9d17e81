//! What the role that is connected may do: enough for the relay or for a person, and no more.

use sqlx::PgConnection;

use super::Check;
use crate::verbs::error::{Error, doing};

/// Whether the role has the rights of a relay, or at least those of a person who runs the verbs.
pub(crate) async fn suffice(connection: &mut PgConnection) -> Result<Check, Error> {
    let lacks = missing(connection).await?;
    let of = |who: &str| {
        let of = lacks.iter().filter(|(for_whom, _)| for_whom == who);
        of.map(|(_, right)| right.as_str()).collect::<Vec<_>>()
    };
    let (relay, operator) = (of("relay"), of("operator"));
    let (role, excess) = excess(connection).await?;
    Ok(if !relay.is_empty() && !operator.is_empty() {
        let nearer = if relay.len() <= operator.len() { relay } else { operator };
        Check::fail(
            "rights",
            format!(
                "role {role} may not {}: grant what migrations/messaging/0005_relays.sql grants",
                nearer.join(", ")
            ),
        )
    } else if !excess.is_empty() {
        Check::warn(
            "rights",
            format!("role {role} {}: a role like outbox_relay is enough", excess.join(", ")),
        )
    } else if relay.is_empty() {
        Check::ok("rights", format!("role {role} may ship, and neither write nor delete events"))
    } else {
        Check::ok("rights", format!("role {role} may run the verbs; it may not ship"))
    })
}

/// The rights that are missing, for a relay and for an operator.
async fn missing(connection: &mut PgConnection) -> Result<Vec<(String, String)>, Error> {
    sqlx::query_as(
        "select whom, verb || ' ' || thing
         from (values
             ('relay', 'select', 'outbox'),
             ('relay', 'select', 'outbox_cursor'),
             ('relay', 'select', 'outbox_standing'),
             ('relay', 'update', 'outbox_cursor'),
             ('relay', 'select', 'outbox_parked'),
             ('relay', 'insert', 'outbox_parked'),
             ('relay', 'update', 'outbox_parked'),
             ('relay', 'delete', 'outbox_parked'),
             ('relay', 'select', 'outbox_relay'),
             ('relay', 'insert', 'outbox_relay'),
             ('relay', 'update', 'outbox_relay'),
             ('relay', 'delete', 'outbox_relay'),
             ('operator', 'select', 'outbox_cursor'),
             ('operator', 'select', 'outbox_standing'),
             ('operator', 'select', 'outbox_relay')
         ) needed (whom, verb, thing)
         where not has_table_privilege(format('messaging.%I', thing), verb)
         union all
         select whom, format('%s %s.%s', verb, thing, attribute)
         from (values
             ('operator', 'select', 'outbox', array['slot', 'seq', 'xid', 'shard', 'topic', 'created_at']),
             ('operator', 'select', 'outbox_parked',
              array['seq', 'shard', 'event_id', 'topic', 'key', 'headers', 'created_at', 'reason', 'parked_at', 'wish']),
             ('operator', 'update', 'outbox_cursor', array['paused', 'wish']),
             ('operator', 'update', 'outbox_relay', array['draining']),
             ('operator', 'update', 'outbox_parked', array['wish'])
         ) needed (whom, verb, thing, attributes)
         cross join unnest(attributes) attribute
         where not has_column_privilege(format('messaging.%I', thing), attribute, verb)
         union all
         select 'relay', 'execute ' || proname
         from pg_proc
         where pronamespace = 'messaging'::regnamespace
           and proname in ('rotate_outbox', 'adopt_outbox')
           and not has_function_privilege(oid, 'execute')
         union all
         select 'relay', 'select outbox_seq'
         where not has_sequence_privilege('messaging.outbox_seq', 'select')",
    )
    .fetch_all(connection)
    .await
    .map_err(doing("asking for rights"))
}

/// The role, and what it may beyond what it needs.
async fn excess(connection: &mut PgConnection) -> Result<(String, Vec<&'static str>), Error> {
    let (role, superuser, owner, insert, delete): (String, bool, bool, bool, bool) =
        sqlx::query_as(
            "select current_user::text,
                    rolsuper,
                    pg_has_role(relowner, 'usage'),
                    has_table_privilege('messaging.outbox', 'insert'),
                    has_table_privilege('messaging.outbox', 'update, delete, truncate')
             from pg_roles
             cross join pg_class
             where rolname = current_user
               and pg_class.oid = 'messaging.outbox'::regclass",
        )
        .fetch_one(connection)
        .await
        .map_err(doing("asking for rights"))?;
    let excess = if superuser {
        vec!["is a superuser"]
    } else if owner {
        vec!["owns the outbox"]
    } else {
        let may = [(insert, "may write events"), (delete, "may change or delete events")];
        may.into_iter().filter_map(|(may, what)| may.then_some(what)).collect()
    };
    Ok((role, excess))
}
