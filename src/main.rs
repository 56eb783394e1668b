//! The `offhook` program: maps what [`offhook::cli`] returns to an exit code, and nothing else.

fn main() -> std::process::ExitCode {
    offhook::cli::main()
}
