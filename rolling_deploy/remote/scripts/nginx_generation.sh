# Asking the generation endpoint on fresh connections, with whatever this machine has.
find_client() {
    for client in bash curl wget python3; do
        if command -v "$client" >/dev/null 2>&1; then return 0; fi
    done
    client=
    return 1
}

# ask_generation COUNT: up to COUNT answers, one a line, `STATUS BODY`; `000` when there was none.
# Stops at the first that is not 200. Every question has two seconds.
ask_generation() {
    find_client
    case $client in
        bash) ask_bash "$1" ;;
        curl) ask_each "$1" ask_curl ;;
        wget) ask_each "$1" ask_wget ;;
        python3) ask_each "$1" ask_python ;;
        *) printf '000 no bash, curl, wget or python3 to ask with\n' ;;
    esac
}

ask_bash() {
    bash -c '
        trap "" PIPE
        printf -v cr "\r"
        ask() {
            printf "GET /generation HTTP/1.0\r\nHost: %s\r\nConnection: close\r\n\r\n" "$host" >&3
            read -r -t 2 version status rest <&3 || return
            while IFS= read -r -t 2 line <&3 && [ -n "${line%"$cr"}" ]; do :; done
            IFS= read -r -t 2 body <&3
            answer="${status%"$cr"} ${body%"$cr"}"
        }
        port=$1 host=$2 left=$3
        while [ "$left" -gt 0 ]; do
            answer="000 no answer" body=""
            { ask; } 3<>"/dev/tcp/127.0.0.1/$port"
            printf "%s\n" "$answer"
            case $answer in "200 "*) ;; *) exit 0 ;; esac
            left=$((left - 1))
        done' bash "$port" "$host" "$1" 2>/dev/null </dev/null 9>&-
}

ask_each() {
    a_left=$1
    while [ "$a_left" -gt 0 ]; do
        a_answer=$("$2" </dev/null 2>/dev/null 9>&- | tr -d '\r' | head -n 1)
        printf '%s\n' "${a_answer:-000 no answer}"
        case $a_answer in '200 '*) ;; *) return 0 ;; esac
        a_left=$((a_left - 1))
    done
}

ask_curl() {
    a_body=$(curl -s -f -m 2 --noproxy '*' -H "Host: $host" "http://127.0.0.1:$port/generation") || return 0
    printf '200 %s\n' "$a_body"
}

ask_wget() {
    a_body=$(http_proxy='' wget -q -O - -T 2 -t 1 --header="Host: $host" \
        "http://127.0.0.1:$port/generation") || return 0
    printf '200 %s\n' "$a_body"
}

ask_python() {
    python3 -c '
import http.client, sys
link = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]), timeout=2)
link.request("GET", "/generation", headers={"Host": sys.argv[2]})
answer = link.getresponse()
print(answer.status, answer.read(4096).decode("latin-1"))' "$port" "$host"
}

# probes: how many questions, in p_count; twice the current workers, 2 to 16.
probes() {
    p_count=$((n_current * 2))
    [ "$p_count" -ge 2 ] || p_count=2
    [ "$p_count" -le 16 ] || p_count=16
}

# ask_live: sets live to the generation that all answers agreed on, else empty; answers keeps the
# different answers for a person.
ask_live() {
    probes
    answers=
    while read -r a_line; do
        case $newline$answers$newline in
            *"$newline$a_line$newline"*) ;;
            *) answers=$answers${answers:+$newline}$a_line ;;
        esac
    done <<ANSWERS
$(ask_generation "$p_count")
ANSWERS
    live=
    case $answers in
        *"$newline"*) ;;
        '200 '*) live=${answers#200 } ;;
    esac
}
