# One load balancer's settings: the first arguments of every nginx script.
state=$1 file=$2 port=$3 host=$4 policy=$5 set_pid_file=$6 set_config=$7 set_prefix=$8 set_binary=$9
shift 9
set_test=$1 set_reload=$2 prove_limit_ms=$3
shift 3
newline='
'

