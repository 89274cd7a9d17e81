//! The program `chaos`.

fn main() -> std::process::ExitCode {
    e2e::program::main()
}
