# The program of every container of the table.
#   program.sh NAME [tries]  says in /report-NAME what it finds, and perhaps what it can do about
#                            its cgroups, then counts the ticks that it is sent
#   program.sh exec NAME     says what it finds, and ends when it is let go
# TERM ends the first, USR1 has it use up its memory.
probe() {
  said=$( { mknod "/dev/probe-$1-$2-$$" c "$1" "$2" && : >>"/dev/probe-$1-$2-$$"; } 2>&1 ) &&
    said=opens
  echo "$1:$2 ${said##*: }"
}
mounts() {
  grep -e ' - cgroup' /proc/self/mountinfo
}
report() {
  echo "== cgroup"
  cat /proc/self/cgroup
  echo "== mounts"
  mounts
  echo "== devices"
  probe 1 11
  probe 240 7
  probe 1 3
}

# What COMMAND... comes to: "done", or the last words of why not.
newline='
'
outcome() {
  said=$("$@" 2>&1) && said=done
  said=${said%%"$newline"*}
  echo "${said##*: }"
}
# Write what is there already.
rewrite() {
  cat "$1" >"$1"
}
# Go into a cgroup below this one.
below() {
  mkdir "$1/below" || return
  sh -c 'echo $$ >"$0/below/cgroup.procs"' "$1"
  status=$?
  rmdir "$1/below"
  return $status
}
# own MOUNT NAME: its own cgroup there. In a mount of all it is found by its name, under podman by
# the one that the host has.
own() {
  grep -qx $$ "$1/cgroup.procs" && echo "$1" && return
  find "$1" -type d -name "*$2*" ! -name 'program@*' \
    -o -type d -name "*-$(cat /proc/sys/kernel/hostname)*" 2>/dev/null | head -n 1
}
# at MOUNT OWN [WHEN]: what it can do about its limits there. OWN may not be known.
at() {
  for file in memory.max memory.limit_in_bytes pids.max; do
    [ ! -e "${2:-$1}/$file" ] || echo "write $1/$file $3 = $(outcome rewrite "${2:-$1}/$file")"
  done
  [ -z "$2" ] || echo "go below $1 $3 = $(outcome below "$2")"
}
tries() {
  echo "== tries"
  mounts | while read -r _ _ _ _ mount options _; do
    own=$(own "$mount" "$1")
    at "$mount" "$own"
    said=$(outcome mount -o remount,rw,bind none "$mount")
    echo "remount $mount = $said"
    if [ "$said" = done ]; then
      at "$mount" "$own" remounted
      [ "${options#ro}" = "$options" ] || mount -o remount,ro,bind none "$mount"
    fi
  done
  mkdir /dev/cgroups
  said=$(outcome mount -t cgroup2 none /dev/cgroups)
  echo "mount anew = $said"
  if [ "$said" = done ]; then
    echo "read anew = $(cat /dev/cgroups/memory.max /dev/cgroups/pids.max 2>&1 | tr '\n' ' ')"
    at /dev/cgroups /dev/cgroups
    umount /dev/cgroups
  fi
}

if [ "$1" = exec ]; then
  report
  echo "== end"
  read -r line <"/go-$2"
  exit
fi
trap 'exit 0' TERM
trap 'dd if=/dev/zero of=/dev/null bs=256M count=1 & wait $!' USR1
{
  report
  [ -z "$2" ] || tries "$1"
  echo "== end"
} >"/report-$1" 2>&1
# Opened for both, so that it never ends. Nothing runs here unless it is told to: in a guest there
# is one CPU for all.
cat <>"/ticks-$1" >>"/count-$1" &
while :; do wait; done
