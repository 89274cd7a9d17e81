//! `model`: checks the saga, and shows what each of its rules prevents.

fn main() -> std::process::ExitCode {
    model::cli::run()
}
