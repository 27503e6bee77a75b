package proxy

import "fmt"

const httpText = "This port speaks the Redis protocol and no HTTP. Understudy's pages, /metrics and /api are at the address that it names as http.\n"

// httpRefusal is the answer to an HTTP request. What follows the first line is not looked at: a web page may have
// made a browser send Redis commands in the body.
var httpRefusal = fmt.Sprintf("HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s",
	len(httpText), httpText)
