//! What is done once, by its owner, to an outbox table that is not ours. The relay prints these statements and never
//! runs them. Writers need no change, no new right, and notice one short lock.

use crate::{
    identifier::Identifier,
    mapping::{Mapping, Remove, Row},
    table::Table,
};

impl Table {
    /// The statements that make the mapped table fit for the relay; None for our own, which the migrations make.
    pub fn preparation(&self) -> Option<String> {
        self.mapping.as_ref().map(Mapping::preparation)
    }

    /// The other way: the statements that copy every row which is inserted into the mapped table to our own. The source
    /// then has no map. None for our own table.
    pub fn copying(&self) -> Option<String> {
        self.mapping.as_ref().map(Mapping::copying)
    }
}

impl Mapping {
    /// An identity needs no right on its sequence from those who insert, as a default from a sequence would.
    fn preparation(&self) -> String {
        let table = self.name.quoted();
        let [seq, xid, created_at] =
            [&self.seq, &self.xid, &self.created_at].map(Identifier::quoted);
        let grants = self.grants();
        let index = |column: &Identifier, kind: &str| {
            let name = format!("relay_{}_of_{}", column.as_str(), self.name.table().as_str());
            format!(
                "create {kind} concurrently if not exists \"{name}\" on {table} ({});\n",
                column.quoted()
            )
        };
        // What the row is found by has an index already.
        let seq_index = if self.seq == self.event_id {
            String::new()
        } else {
            index(&self.seq, "unique index")
        };
        let xid_index = index(&self.xid, "index");
        format!(
            "\
-- Prepares {table} for the outbox relay. Run it with psql, as the table's owner, once the tables of
-- migrations/messaging are there; not inside a transaction. Running it again does no harm.

begin;
-- Every writer waits while the rows that are there get their numbers; nobody waits long for the lock itself.
set local lock_timeout = '2s';
alter table {table}
    add column if not exists {seq} bigint not null generated always as identity (cache 1),
    add column if not exists {xid} xid8 not null default pg_current_xact_id(),
    add column if not exists {created_at} timestamptz not null default clock_timestamp();
{grants}
-- After a restore on another cluster, --adopt-cluster sends again what is in the table.
create or replace function messaging.adopt_outbox()
returns void
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    start xid8 := pg_snapshot_xmin(pg_current_snapshot());
begin
    update {table}
    set {xid} = pg_current_xact_id();
    update messaging.outbox_cursor
    set acked = format('%s:%s:', start, start)::pg_snapshot,
        target = null,
        sent_seq = null,
        follows = null,
        moves = moves + 1;
end
$$;
commit;

{seq_index}{xid_index}
-- What is committed by now counts as sent, unless a relay has begun already: `outbox-relay reset-cursor --to earliest`
-- says otherwise.
update messaging.outbox_cursor
set acked = pg_current_snapshot(),
    target = null,
    sent_seq = null
where epoch = 0;
"
        )
    }

    fn grants(&self) -> String {
        let (schema, table) = (self.name.schema().quoted(), self.name.quoted());
        let rights = match self.remove {
            Remove::Keep => "select",
            Remove::Delete => "select, delete",
        };
        format!(
            "
do $$
begin
    if exists (select from pg_roles where rolname = 'outbox_relay') then
        grant usage on schema {schema} to outbox_relay;
        grant {rights} on {table} to outbox_relay;
    end if;
end
$$;
"
        )
    }

    /// The function runs with its owner's rights: writers need none on our table.
    fn copying(&self) -> String {
        let row = Row { mapping: self, name: "new" };
        let table = self.name.quoted();
        let function = format!("messaging.\"copy_{}\"", self.name.table().as_str());
        let (event_id, topic, key) = (row.event_id(), row.topic(), row.key());
        let (headers, payload) = (row.headers(), row.payload_bytes());
        format!(
            "\
-- Copies every row that is inserted into {table} to messaging.outbox, in the same transaction.
-- Run it as the owner of both.

create function {function}()
returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    insert into messaging.outbox (event_id, topic, key, headers, payload)
    values (
        {event_id},
        {topic},
        {key},
        {headers},
        {payload}
    );
    return null;
end
$$;

create trigger relay_copies
after insert on {table}
for each row execute function {function}();
"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_beside_the_readme_are_what_the_usual_table_needs() {
        let table = Mapping::default().table();
        assert_eq!(table.preparation().as_deref(), Some(include_str!("../debezium/prepare.sql")));
        assert_eq!(table.copying().as_deref(), Some(include_str!("../debezium/copy.sql")));
        assert_eq!(Table::default().preparation(), None);
    }
}
