<?php
switch (parse_url($_SERVER['REQUEST_URI'], PHP_URL_PATH)) {
case '/length':
    echo $_SERVER['REQUEST_METHOD'], ' ', strlen(file_get_contents('php://input')), "\n";
    break;
case '/slow':
    echo "one\n";
    flush();
    usleep(300000);
    echo "two\n";
    break;
case '/both': // PHP adds no framing of its own, and curl reads this as chunked
    header('Content-Length: 5');
    header('Transfer-Encoding: chunked');
    echo "5\r\nhello\r\n0\r\n\r\n";
    break;
default:
    setcookie('a', 'b');
    setcookie('c', 'd');
    echo "hello\n";
}
