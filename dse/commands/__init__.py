"""What each subcommand does; `dse.cli` imports a module of it only when its command is called."""
