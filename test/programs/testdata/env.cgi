#!/bin/sh
# What Apache knows of a request, and its body.
[ "$QUERY_STRING" != slow ] || { sum=$(md5sum); sleep 2.5; } # before the head
echo 'Content-Type: text/plain'
echo
if [ "$QUERY_STRING" = slow ]; then
    echo "slow $REQUEST_METHOD $sum"
    exit
fi
if [ "$QUERY_STRING" = sleep ]; then
    for i in 1 2 3; do echo "$i"; sleep 0.2; done
    exit
fi
env | grep -E '^(HTTP_|REMOTE|SERVER_|REQUEST|CONTENT|QUERY|PATH_INFO)' | grep -v SOFTWARE | sort
echo "SUM=$(md5sum)"
