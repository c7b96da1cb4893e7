#!/bin/sh
exec sh "$SHARED/ssh" "$@"
