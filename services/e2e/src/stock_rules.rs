//! Stock is conserved: what is free and what is held are what was put in; and orders' copy says the same.

use crate::{finding::Finding, ledger::Entries, snapshot::Snapshot};

/// Everything that is wrong with the stock.
pub fn check(snapshot: &Snapshot, known: &Entries) -> Vec<Finding> {
    let conserved = known.stock.iter().filter_map(|(product_id, initial)| {
        let free = snapshot.products.get(product_id).map_or(0, |product| product.stock);
        let held = held(snapshot, product_id);
        (free + held != *initial).then(|| Finding::StockNotConserved {
            product_id: product_id.clone(),
            initial: *initial,
            free,
            held,
        })
    });
    let copied = snapshot.products.values().filter_map(|product| {
        let replica = snapshot.replicas.get(&product.product_id);
        let (product_id, product) = (product.product_id.clone(), (product.stock, product.version));
        let replica = replica.map(|replica| (replica.stock, replica.version));
        (replica != Some(product)).then_some(Finding::ReplicaDiffers {
            product_id,
            product,
            replica,
        })
    });
    conserved.chain(copied).collect()
}

fn held(snapshot: &Snapshot, product_id: &str) -> i64 {
    let reserved = snapshot.reservations.values().filter(|it| it.state == "RESERVED");
    let lines = reserved.flat_map(|it| it.lines.iter());
    lines.filter(|line| line.product_id == product_id).map(|line| line.quantity).sum()
}
