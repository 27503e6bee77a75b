package resp

import "bytes"

// IsPush reports whether a whole reply is an out-of-band push (RESP3 '>'), with
// or without attributes before it. Pushes answer no command.
func IsPush(reply []byte) bool {
	if len(reply) == 0 || reply[0] != '|' {
		return len(reply) > 0 && reply[0] == '>'
	}
	v, n, err := Parse(reply)
	return err == nil && n > 0 && v.Kind == '>'
}

// ErrorCode gives the code of an error reply: "READONLY" of "-READONLY You
// can't write…". It is nil for any other reply.
//
// Two errors wrap another one. The code inside says what the server refused,
// and so whether the command may be sent again, and is what they give:
//   - a script that hit an error in Redis before 7.0:
//     "-ERR Error running script (call to f_…): @user_script:1: @user_script: 1: -READONLY You can't…",
//   - an EXEC refused as a whole:
//     "-EXECABORT Transaction discarded because of: READONLY You can't…".
func ErrorCode(reply []byte) []byte {
	if len(reply) == 0 || reply[0] != '-' && reply[0] != '!' {
		return nil
	}
	text := reply[1:]
	if reply[0] == '!' {
		_, size, ok := header(reply)
		if !ok || size == 0 {
			return nil
		}
		text = reply[size:]
	}
	if end := lineEnd(text, 0); end > 0 {
		text = text[:end-2]
	}
	code := firstWord(text)
	switch string(code) {
	case "ERR":
		if bytes.HasPrefix(text, []byte("ERR Error running script")) {
			if _, cause, ok := bytes.Cut(text, []byte(": -")); ok && isCode(firstWord(cause)) {
				return firstWord(cause)
			}
		}
	case "EXECABORT":
		if _, cause, ok := bytes.Cut(text, []byte("because of: ")); ok && isCode(firstWord(cause)) {
			return firstWord(cause)
		}
	}
	return code
}

func firstWord(text []byte) []byte {
	if i := bytes.IndexByte(text, ' '); i >= 0 {
		return text[:i]
	}
	return text
}

// isCode reports whether a word looks like an error code: capitals only.
func isCode(word []byte) bool {
	for _, c := range word {
		if c < 'A' || c > 'Z' {
			return false
		}
	}
	return len(word) > 0
}
