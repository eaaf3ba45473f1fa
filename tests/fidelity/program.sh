# The program of every container of the table.
#   program.sh NAME       says in /report-NAME what it finds, then counts the ticks that it is sent
#   program.sh exec NAME  says what it finds, and ends when it is let go
# TERM ends the first, USR1 has it use up its memory.
probe() {
  mknod "/dev/probe-$1-$2-$$" c "$1" "$2"
  said=$( { : >>"/dev/probe-$1-$2-$$"; } 2>&1 ) && said=opens
  echo "$1:$2 ${said##*: }"
}
report() {
  echo "== cgroup"
  cat /proc/self/cgroup
  echo "== mounts"
  grep -e ' - cgroup' /proc/self/mountinfo
  echo "== devices"
  probe 1 11
  probe 240 7
  probe 1 3
  echo "== end"
}
if [ "$1" = exec ]; then
  report
  read -r line <"/go-$2"
  exit
fi
trap 'exit 0' TERM
trap 'dd if=/dev/zero of=/dev/null bs=256M count=1 & wait $!' USR1
report >"/report-$1" 2>&1
# Opened for both, so that it never ends. Nothing runs here unless it is told to: in a guest there
# is one CPU for all.
cat <>"/ticks-$1" >>"/count-$1" &
while :; do wait; done
