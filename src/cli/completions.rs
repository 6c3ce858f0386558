//! `cgk completions`

use clap::Args;
use clap_complete::{Shell, generate};

use super::{exit::Exit, help, ui::printer::Printer};

pub(crate) const EXAMPLES: &str = "\
Examples:
  cgk completions bash > ~/.local/share/bash-completion/completions/cgk
  cgk completions zsh > ~/.zfunc/_cgk        with ~/.zfunc in $fpath
  cgk completions fish > ~/.config/fish/completions/cgk.fish";

#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// The shell
    shell: Shell,
}

pub(crate) fn run(printer: &Printer, arguments: &Arguments) -> Exit {
    let mut script = Vec::new();
    generate(arguments.shell, &mut visible(), "cgk", &mut script);
    let script = String::from_utf8_lossy(&script).into_owned();
    printer.raw(match arguments.shell {
        Shell::Bash => bash(&script),
        Shell::Zsh => zsh(script),
        _ => script,
    });
    Exit::Done
}

/// Returns the parser without its hidden commands, which the generator would also offer.
fn visible() -> clap::Command {
    let whole = help::command();
    let commands: Vec<_> = whole.get_subcommands().filter(|command| !command.is_hide_set()).cloned().collect();
    clap::Command::new("cgk").args(whole.get_arguments().cloned()).subcommands(commands)
}

/// Wraps the script for bash, which treats `tenant:create` as three words. The wrapper joins them again before the
/// generated function gets them. It removes the text before the last colon, because bash adds the result after it.
fn bash(script: &str) -> String {
    let mut inner = script.replace("_cgk()", "_cgk_inner()");
    // The last lines of the generated script register the function.
    if let Some(at) = inner.rfind("\nif [[ \"${BASH_VERSINFO[0]}\"") {
        inner.truncate(at + 1);
    }
    format!("{inner}{BASH_WRAPPER}")
}

const BASH_WRAPPER: &str = r#"
_cgk() {
    local words=() cword=0 glue=0 i w line=$COMP_LINE
    for ((i = 0; i < ${#COMP_WORDS[@]}; i++)); do
        w=${COMP_WORDS[i]}
        # A word goes on the one before it when one of them is the colon and no blank stands between.
        if ((i > 0)) && [[ $line != [[:space:]]* ]] && { [[ $w == :* ]] || ((glue)); }; then
            words[${#words[@]} - 1]+=$w
        else
            words+=("$w")
        fi
        [[ $w == *: ]] && glue=1 || glue=0
        line=${line#"${line%%[![:space:]]*}"}
        line=${line#"$w"}
        ((i == COMP_CWORD)) && cword=$((${#words[@]} - 1))
    done
    COMP_WORDS=("${words[@]}")
    COMP_CWORD=$cword
    _cgk_inner "$1" "${words[cword]}" "${words[cword > 0 ? cword - 1 : 0]}"
    local current=${words[cword]}
    if [[ $current == *:* && $COMP_WORDBREAKS == *:* ]]; then
        local prefix=${current%"${current##*:}"}
        for ((i = 0; i < ${#COMPREPLY[@]}; i++)); do
            COMPREPLY[i]=${COMPREPLY[i]#"$prefix"}
        done
    fi
}

complete -F _cgk -o bashdefault -o default cgk
"#;

/// Changes the script for zsh, which treats the text after a colon as a description.
fn zsh(mut script: String) -> String {
    for name in visible().get_subcommands().map(clap::Command::get_name).filter(|name| name.contains(':')) {
        script = script.replace(&format!("'{name}:"), &format!("'{}:", name.replace(':', "\\:")));
    }
    script
}
