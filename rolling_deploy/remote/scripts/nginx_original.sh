# with: nginx_settings
# nginx_original: the kept original, if there is one.
[ ! -e "$state/original" ] || { [ -r "$state/original" ] || fail "cannot read $state/original"; }
[ ! -e "$state/original" ] || say64 original < "$state/original"
finish done
