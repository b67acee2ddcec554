# with: nginx_settings nginx_processes nginx_generation nginx_publish
# nginx_apply EPOCH HOLDER REPLACES GENERATION ADOPT SIZE SHA256, the text on stdin.
epoch=$1 holder=$2 replaces=$3 generation=$4 adopt=$5 size=$6 sha=$7

# keep_original: what a person had, before our first text. Never one of our own texts: a retry of
# an adoption finds those. One that a person has edited since is kept beside it, under another name.
keep_original() {
    [ "$replaced" != absent ] || return 0
    [ -z "$snapshot" ] || return 0
    if is_stamped; then
        keep "$real" edited
        return
    fi
    if [ -e "$state/original" ]; then
        [ "$(digest_of "$state/original")" != "$replaced" ] || return 0
        mv -f "$state/original" "$state/original.$(digest_of "$state/original" | cut -c 1-12)" || return 1
    fi
    keep "$real" original
}

take_in "$state" .incoming
[ "$(($(wc -c < "$taken")))" = "$size" ] && [ "$(digest_of "$taken")" = "$sha" ] ||
    fail "the text did not arrive whole; nothing was changed"
enter "$state" "$epoch" "$holder"
ready_to_change "$replaces"
find_snapshot "$replaced"
before=${snapshot##*/}
placed=0 ours=$sha
if [ "$replaced" = "$sha" ]; then
    take_snapshot "$generation" "$sha" "${before:--}" || fail "cannot note the workers in $state; nothing was changed"
else
    if [ "$adopt" = 1 ]; then keep_original || fail "cannot keep the original in $state; nothing was changed"; fi
    [ "$replaced" = absent ] || cp "$real" "$state/previous" || fail "cannot keep the file in $state; nothing was changed"
    # Before the file is in place: whoever reloads nginx from now on makes it live, and then these
    # workers are the earlier ones. Again just before our own signal, for those born in between.
    take_snapshot "$generation" "$sha" "${before:--}" || fail "cannot note the workers in $state; nothing was changed"
    publish "$taken"
    test_or_put_back
    list_processes
    take_snapshot "$generation" "$sha" "${before:--}" || fail_unloaded "cannot note the workers in $state"
fi
judge_pid_file
why_not_ours
[ -z "$ours_why" ] || fail_unloaded "$ours_why"
reload
prove "$state/generations/$generation" "$generation" || fail_unproved
prune_snapshots
say live "$live"
say earlier "$n_earlier"
finish done "$n_current new workers serve generation $generation, $n_earlier earlier ones are left"
