//! The allocator of every service. A span is made on one thread and freed on another, which costs glibc's allocator twice as
//! much: with all of them collected, that is what tracing costs.

use mimalloc::MiMalloc;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;
