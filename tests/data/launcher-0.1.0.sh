#!/bin/sh
# Launcher of nri-hook: `nri-hook install` writes it, `nri-hook uninstall` removes it.
''':'
# To sh everything up to the next three quotes is a program, to Python it is a text. Most hooks have
# nothing to do: no plugin is configured, or the container has no record. That is found out here, at
# a fraction of what starting Python costs; in any doubt Python goes on. stdin is read to its end,
# since crun writes it in one go and fails where nobody does.
set +f # a shell may be told otherwise by SHELLOPTS
conf=/etc/nri state=/run/nri-hook clear=yes flag=stage
for word do
  case $flag in
  stage) flag= ;;
  --conf-dir | --state-dir | --plugin-dir)
    case $word in
    /*) ;;
    *) clear= ;;
    esac
    [ "$flag" != --conf-dir ] || conf=$word
    [ "$flag" != --state-dir ] || state=$word
    flag=
    ;;
  --timeout)
    case $word in
    '' | 0* | *[!0-9]*) clear= ;;
    esac
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
# Others than root may not see what is there, and have their records elsewhere.
[ -O / ] && [ -z "$flag" ] || clear=

case $clear$1 in
yescreateRuntime | yesprecreate)
  for file in "$conf"/resource.d/*.conf "$conf/conf.json"; do
    [ ! -e "$file" ] && [ ! -L "$file" ] || clear=
  done
  [ -z "$clear" ] || PATH=$PATH:/usr/bin:/bin # of a hook file it can be anything
  case $clear$1 in
  yescreateRuntime) exec cat >/dev/null ;;
  yesprecreate) exec cat ;; # what it prints is the config
  esac
  ;;
yespoststart | yespoststop)
  text=
  while IFS= read -r line; do text=$text$line; done
  text=$text$line
  id=
  case $text in
  *'}') ;; # whole, as far as can be told
  *) clear= ;;
  esac
  case ${text%%'"annotations"'*} in
  *'"id":"'*) id=${text#*'"id":"'} id=${id%%'"'*} ;;
  esac
  case $id in
  '' | *[!A-Za-z0-9_+.-]*) clear= ;;
  esac
  [ ${#id} -le 200 ] || clear= # of a longer one the record has no more
  for file in "$state/$id"-*; do
    case $1$file in
    *.log | *.log.cut) ;; # it stays when the record goes
    poststart*.lock) ;;   # it is there as long as the record
    poststart*.json) [ ! -e "$file" ] || [ -k "$file" ] || clear= ;; # see record.SETTLED
    *) [ ! -e "$file" ] || clear= ;;
    esac
  done
  if [ "$state" = /run/nri-hook ]; then # in a user namespace they are elsewhere
    read -r inside outside count 2>/dev/null </proc/self/uid_map
    [ "$inside $outside $count" = "0 0 4294967295" ] || clear=
  fi
  if [ -e "$state" ]; then
    [ -d "$state" ] && [ -O "$state" ] && [ -w "$state" ] || clear=
  fi
  [ -z "$clear" ] || exit 0
  # A shell may need a file for this, and have no room for it; without `command` it would end with
  # 1, for which the runtimes kill the container.
  command exec @PYTHON@ -IS "$0" "$@" <<STATE
$text
STATE
  exit 0
  ;;
esac
exec @PYTHON@ -IS "$0" "$@"
'''

import gc
import sys

# It lives for milliseconds: nothing that it could collect is worth the search.
gc.disable()
# crun calls hooks with umask 0: a __pycache__ made here would be open to everybody.
sys.dont_write_bytecode = True
sys.path += [
@FOLDERS@
]

from nri_hook import quick

quick.install("nri_hook")

from nri_hook.stages import main

main(sys.argv)
