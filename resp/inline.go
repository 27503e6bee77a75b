package resp

// splitInline appends the words of an inline command to out, by the rules of
// redis's sdssplitargs: words are separated by blanks; a part in double quotes
// knows the escapes \n \r \t \b \a \xHH and takes any other escaped byte as it
// is; a part in single quotes knows only \'; a closing quote must be followed
// by a blank or the end of the line. ok is false for unbalanced quotes. The
// line has no NUL, which would end it in the C function.
func splitInline(line []byte, out [][]byte) (words [][]byte, ok bool) {
	for {
		for len(line) > 0 && isSpace(line[0]) {
			line = line[1:]
		}
		if len(line) == 0 {
			return out, true
		}
		word, rest, ok := inlineWord(line)
		if !ok {
			return out, false
		}
		out = append(out, word)
		line = rest
	}
}

// inlineWord reads one word. It is a slice of line unless quotes make it differ.
func inlineWord(line []byte) (word, rest []byte, ok bool) {
	i := 0
	for i < len(line) && !endsWord(line[i]) {
		if line[i] == '"' || line[i] == '\'' {
			return quotedWord(line, i)
		}
		i++
	}
	return line[:i:i], line[i:], true
}

// quotedWord reads a word that has its first quote at offset quote.
func quotedWord(line []byte, quote int) (word, rest []byte, ok bool) {
	word = append(make([]byte, 0, len(line)), line[:quote]...)
	for i := quote; i < len(line); {
		switch c := line[i]; {
		case endsWord(c):
			return word, line[i:], true
		case c != '"' && c != '\'':
			word = append(word, c)
			i++
		default:
			var size int
			if word, size, ok = quotedPart(word, line[i:]); !ok {
				return nil, nil, false
			}
			i += size
			if i < len(line) && !isSpace(line[i]) {
				return nil, nil, false
			}
		}
	}
	return word, nil, true
}

// quotedPart appends what stands between the quote at part[0] and its partner;
// size is the length of the part with both quotes.
func quotedPart(word, part []byte) (out []byte, size int, ok bool) {
	quote := part[0]
	for i := 1; i < len(part); i++ {
		c := part[i]
		switch {
		case c == quote:
			return word, i + 1, true
		case c == '\\' && quote == '\'' && i+1 < len(part) && part[i+1] == '\'':
			word = append(word, '\'')
			i++
		case c == '\\' && quote == '"' && i+3 < len(part) && part[i+1] == 'x' && isHex(part[i+2]) && isHex(part[i+3]):
			word = append(word, unhex(part[i+2])<<4|unhex(part[i+3]))
			i += 3
		case c == '\\' && quote == '"' && i+1 < len(part):
			i++
			word = append(word, unescape(part[i]))
		default:
			word = append(word, c)
		}
	}
	return word, 0, false
}

// endsWord reports the bytes that end an unquoted word. They are fewer than
// those that isSpace skips between words: sdssplitargs has it so.
func endsWord(c byte) bool { return c == ' ' || c == '\n' || c == '\r' || c == '\t' }

func isSpace(c byte) bool { return c == ' ' || c >= '\t' && c <= '\r' }

func isHex(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F'
}

func unhex(c byte) byte {
	if c <= '9' {
		return c - '0'
	}
	return c&^0x20 - 'A' + 10
}

func unescape(c byte) byte {
	switch c {
	case 'n':
		return '\n'
	case 'r':
		return '\r'
	case 't':
		return '\t'
	case 'b':
		return '\b'
	case 'a':
		return '\a'
	}
	return c
}
