# bash completion for gpt2: asks the command itself, so it never falls behind its options.
_gpt2_completion() {
    local response type value
    response=$(env COMP_WORDS="${COMP_WORDS[*]}" COMP_CWORD="$COMP_CWORD" _GPT2_COMPLETE=bash_complete "$1" 2>/dev/null)
    COMPREPLY=()
    while IFS=, read -r type value; do
        case $type in
            dir) compopt -o dirnames ;;
            file) compopt -o default ;;
            plain) COMPREPLY+=("$value") ;;
        esac
    done <<<"$response"
}
complete -o nosort -F _gpt2_completion gpt2
