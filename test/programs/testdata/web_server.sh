# A web server as people write it into a shell: its lines end in LF alone, and its response
# ends with the connection.
while read -r line && [ ${#line} -gt 1 ]; do :; done
printf 'HTTP/1.1 200 OK\nContent-Type: text/plain\n\nhello\n'
