#!/bin/sh
# A run into a small disk, then another with enough room; for test_faults, which gives it its own mount namespace.
#   disk.sh SIZE DIR RESULT TRAIN ARGUMENTS...
# SIZE is in kB, or "ro": read-only. DIR is where to mount it; the run's folder is DIR/out. At the end this folder is
# copied to RESULT. Prints what the first run says on stderr, its status, the second one's status and how it began.
size=$1 dir=$2 result=$3
shift 3
if [ "$size" = ro ]; then
    mount -t tmpfs none "$dir" && mkdir "$dir/out" && mount -o remount,ro none "$dir" || exit 99
    "$@" --output_dir="$dir/out" 2>&1
    echo "status $?"
    exit
fi
mount -t tmpfs -o "size=${size}k" none "$dir" || exit 99
"$@" --output_dir="$dir/out" 2>&1 >/dev/null
echo "status $?"
mount -o remount,size=16m none "$dir"
how=--overwrite_output_dir=true
for checkpoint in "$dir"/out/checkpoint-*[0-9]; do
    case $checkpoint in
        *.tmp.*) ;;
        *) [ -d "$checkpoint" ] && how=--resume_from_checkpoint=latest ;;
    esac
done
"$@" --output_dir="$dir/out" $how 2>&1 >/dev/null
echo "again $? $how"
cp -r "$dir/out" "$result"
