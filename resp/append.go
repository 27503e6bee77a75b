package resp

import "strconv"

// AppendCommand appends a command as a multibulk, as clients send it.
func AppendCommand(dst []byte, args ...string) []byte {
	dst = AppendArray(dst, len(args))
	for _, arg := range args {
		dst = appendHeader(dst, '$', len(arg))
		dst = append(dst, arg...)
		dst = append(dst, '\r', '\n')
	}
	return dst
}

// AppendCommandBytes is AppendCommand for words that are bytes.
func AppendCommandBytes(dst []byte, args ...[]byte) []byte {
	dst = AppendArray(dst, len(args))
	for _, arg := range args {
		dst = AppendBulk(dst, arg)
	}
	return dst
}

// AppendError appends an error reply. text starts with its code, such as
// "ERR" or "TRYAGAIN"; line breaks in it become blanks, as in redis-server.
func AppendError(dst []byte, text string) []byte {
	return appendLine(append(dst, '-'), text)
}

// AppendSimple appends a simple string such as "OK"; line breaks become blanks.
func AppendSimple(dst []byte, text string) []byte {
	return appendLine(append(dst, '+'), text)
}

func appendLine(dst []byte, text string) []byte {
	start := len(dst)
	dst = append(dst, text...)
	for i := start; i < len(dst); i++ {
		if dst[i] == '\r' || dst[i] == '\n' {
			dst[i] = ' '
		}
	}
	return append(dst, '\r', '\n')
}

// AppendBulk appends a bulk string.
func AppendBulk(dst, value []byte) []byte {
	dst = appendHeader(dst, '$', len(value))
	dst = append(dst, value...)
	return append(dst, '\r', '\n')
}

// AppendInt appends an integer reply.
func AppendInt(dst []byte, n int64) []byte {
	dst = strconv.AppendInt(append(dst, ':'), n, 10)
	return append(dst, '\r', '\n')
}

// AppendArray appends the header of an array of n elements.
func AppendArray(dst []byte, n int) []byte { return appendHeader(dst, '*', n) }

// AppendNull appends the null of the protocol version that the client speaks:
// 3 after HELLO 3, else 2.
func AppendNull(dst []byte, proto int) []byte {
	if proto >= 3 {
		return append(dst, '_', '\r', '\n')
	}
	return append(dst, "$-1\r\n"...)
}

func appendHeader(dst []byte, kind byte, n int) []byte {
	dst = strconv.AppendInt(append(dst, kind), int64(n), 10)
	return append(dst, '\r', '\n')
}
