#!/bin/sh
# Launcher of nri-hook: `nri-hook install` writes it, `nri-hook uninstall` removes it.
''':'
# To sh everything up to the next three quotes is a program, to Python it is a text. Most hooks have
# nothing to do: no plugin is configured, or no container has a record. That is found out here, at
# a fraction of what starting Python costs; if anything is in doubt, Python decides. Only
# directories are looked at: what comes on stdin is Python's to read, or nobody's.

# What bash may have been told by its environment.
set +aefu
unset -f [ command false read shopt true
for option in globskipdots nocasematch; do
  case ${BASHOPTS-} in
  *$option*) shopt -u $option 2>/dev/null ;;
  esac
done

# Whether a directory can be read: a shell that cannot (for want of descriptors, say) finds nothing
# in it, and does not tell.
can_list() {
  for file in "$1"/.*; do
    if [ "$file" = "$1/." ]; then
      [ -e "$file" ]
      return
    fi
  done
  return 1
}

nothing_at() {
  [ ! -e "$1" ] && [ ! -L "$1" ] && can_list "${1%/*}"
}

# Whether a glob ($1) has found nothing: it stands for itself then.
unmatched() {
  [ $# = 2 ] && [ "$2" = "$1" ] && [ ! -e "$2" ] && [ ! -L "$2" ]
}

no_configuration() {
  nothing_at "$conf" && return
  nothing_at "$conf/conf.json" || return
  nothing_at "$conf/resource.d" && return
  can_list "$conf/resource.d" && unmatched "$conf/resource.d/*.conf" "$conf/resource.d"/*.conf
}

no_record() {
  nothing_at "$state" && return
  can_list "$state" || return
  for ending in json new lock; do
    unmatched "$state/*.$ending" "$state"/*."$ending" || return
  done
}

no_record_to_adopt() {
  nothing_at "$state" && return
  can_list "$state" || return
  for file in "$state"/*.json; do
    [ -k "$file" ] || unmatched "$state/*.json" "$file" || return # see record.SETTLED
  done
}

# Others than root may not see what is there, and in a user namespace the records are elsewhere.
is_root() {
  [ -O / ] && read -r inside outside count </proc/self/uid_map &&
    [ "$inside $outside $count" = "0 0 4294967295" ]
}

conf=/etc/nri state=/run/nri-hook clear=yes flag=stage
for word do
  case $flag in
  stage) flag= ;;
  --timeout)
    case $word in
    '' | 0* | *[!0123456789]* | ?????*) clear= ;;
    esac
    flag=
    ;;
  --*)
    case $word in
    *[!abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-]*) clear= ;;
    /*) [ ${#word} -le 200 ] || clear= ;; # a name can have 255, a path 4096
    *) clear= ;;
    esac
    [ "$flag" != --conf-dir ] || conf=$word
    [ "$flag" != --state-dir ] || state=$word
    flag=
    ;;
  *)
    case $word in
    --conf-dir | --state-dir | --plugin-dir | --timeout) flag=$word ;;
    *) clear= ;;
    esac
    ;;
  esac
done
# A shell exports these of its own, and a plugin gets what the hook has got.
unset PWD OLDPWD SHLVL _

if [ -n "$clear" ] && [ -z "$flag" ]; then
  case $1 in
  createRuntime | precreate) no_configuration ;;
  poststart) no_record_to_adopt ;;
  poststop) no_record ;;
  *) false ;;
  esac && is_root && { true 3<&0; } 2>/dev/null && [ -x /bin/cat ] || clear=
  # stdin is read to its end: crun writes it in one go, and before 1.17 fails where nobody reads.
  case $clear$1 in
  yesprecreate) exec /bin/cat ;; # what it prints is the config
  yes*) command exec /bin/cat >/dev/null ;;
  esac
fi
exec @PYTHON@ -IS "$0" "$@"
'''

import gc
import sys

# It lives for milliseconds: nothing that it could collect is worth the search.
gc.disable()
# crun calls hooks with umask 0: a __pycache__ made here would be open to everybody.
sys.dont_write_bytecode = True
sys.path += [
@DIRECTORIES@
]

from nri_hook import fastimport

fastimport.install("nri_hook")

from nri_hook.hook.stages import main

main(sys.argv)
