package llmtest

import (
	"strings"
	"testing"

	"github.com/gumshoe-ai/gumshoe/agent/llm"
)

func call(id, name, args string) llm.Call { return llm.Call{ID: id, Name: name, Args: args} }

// piece is a call's piece with every field as written, for servers that repeat
// or leave out what the protocol does not.
func piece(fields string) string { return chunk(`{"tool_calls":[{` + fields + `}]}`) }

func ends(reason string, payloads ...string) Step {
	return Events(append(payloads, FinishChunk(reason), UsageChunk(11, 7), "[DONE]")...)
}

func turn(reason string, calls ...llm.Call) llm.Turn {
	return llm.Turn{Calls: calls, Input: 11, Output: 7, Reason: reason}
}

// callCases: tool calls from the wire.
func callCases() []contract {
	wire := func(name string, want llm.Turn, payloads ...string) contract {
		return contract{name: name, wire: true, script: []Step{ends("tool_calls", payloads...)}, want: want}
	}
	a, b := call("c1", "kube_get", `{"a":1}`), call("c2", "dra_explain", `{"b":2}`)
	both := turn(llm.FinishCalls, a, b)
	whole := []llm.Call{a, b}
	answer := Answer{Calls: whole, Input: 11, Output: 7}
	return []contract{
		{name: "parallel calls", script: []Step{Reply(answer)}, want: both},
		wire("interleaved calls", both,
			CallChunk(0, "c1", "kube_get", ""), CallChunk(1, "c2", "dra_explain", ""),
			CallChunk(0, "", "", `{"a"`), CallChunk(1, "", "", `{"b"`), CallChunk(0, "", "", `:1}`), CallChunk(1, "", "", `:2}`)),
		wire("two pieces in one event", both, chunk(`{"tool_calls":[{"index":0,"id":"c1","type":"function","function":{"name":"kube_get","arguments":"{\"a\":1}"}},`+
			`{"index":1,"id":"c2","type":"function","function":{"name":"dra_explain","arguments":"{\"b\":2}"}}]}`)),
		wire("no index", both,
			CallChunk(-1, "c1", "kube_get", `{"a"`), CallChunk(-1, "", "", `:1}`),
			CallChunk(-1, "c2", "dra_explain", `{"b"`), CallChunk(-1, "", "", `:2}`)),
		wire("no index, ids repeated", both,
			CallChunk(-1, "c1", "kube_get", `{"a"`), CallChunk(-1, "c2", "dra_explain", `{"b"`),
			CallChunk(-1, "c1", "", `:1}`), CallChunk(-1, "c2", "", `:2}`)),
		wire("index from 1", both,
			CallChunk(1, "c1", "kube_get", ""), CallChunk(2, "c2", "dra_explain", ""),
			CallChunk(1, "", "", `{"a":1}`), CallChunk(2, "", "", `{"b":2}`)),
		wire("index 0 for all", both,
			CallChunk(0, "c1", "kube_get", `{"a":1}`), CallChunk(0, "c2", "dra_explain", `{"b":2}`)),
		wire("id, type and name repeated", both,
			CallChunk(0, "c1", "kube_get", `{"a"`), CallChunk(0, "c1", "kube_get", `:1}`), CallChunk(0, "c1", "kube_get", ``),
			CallChunk(1, "c2", "dra_explain", `{"b"`), CallChunk(1, "c2", "dra_explain", `:2}`)),
		wire("type and name repeated without id", both,
			CallChunk(0, "c1", "kube_get", `{"a"`), piece(`"index":0,"type":"function","function":{"name":"kube_get","arguments":":1}"}`),
			piece(`"index":0,"type":"function","function":{"name":"kube_get","arguments":""}`),
			CallChunk(1, "c2", "dra_explain", `{"b":2}`)),
		wire("empty strings for id and name", both,
			CallChunk(0, "c1", "kube_get", ""), piece(`"index":0,"id":"","type":"","function":{"name":"","arguments":"{\"a\":1}"}`),
			CallChunk(1, "c2", "dra_explain", `{"b":2}`), piece(`"index":1,"id":null,"function":{"name":null,"arguments":null}`)),
		wire("arguments split inside a character", turn(llm.FinishCalls, call("c1", "f", `{"x":"größe 中"}`)),
			CallChunk(0, "c1", "f", `{"x":"`), piece(`"index":0,"function":{"arguments":"gr`+"\xc3"+`"}`),
			piece(`"index":0,"function":{"arguments":"`+"\xb6"+`\u00dfe `+"\xe4\xb8"+`"}`), piece(`"index":0,"function":{"arguments":"`+"\xad"+`\"}"}`)),
		wire("arguments split inside a surrogate pair", turn(llm.FinishCalls, call("c1", "f", `{"x":"😀"}`)),
			CallChunk(0, "c1", "f", `{"x":"`), piece(`"index":0,"function":{"arguments":"\ud83d"}`), piece(`"index":0,"function":{"arguments":"\ude00\"}"}`)),
		wire("arguments as an object", turn(llm.FinishCalls, call("c1", "f", `{"x":1}`)),
			piece(`"index":0,"id":"c1","function":{"name":"f","arguments":{"x":1}}`)),
		{name: "empty arguments", script: []Step{Reply(Answer{Calls: []llm.Call{call("c1", "f", "")}, Input: 11, Output: 7})},
			want: turn(llm.FinishCalls, call("c1", "f", ""))},
		{name: "invalid arguments", not: func(w *Wire) string { return w.objects }, script: []Step{Reply(Answer{Calls: []llm.Call{call("c1", "f", `{"x":`)}, Input: 11, Output: 7})},
			want: turn(llm.FinishCalls, call("c1", "f", `{"x":`))},
		{name: "unknown tool", req: llm.Request{Tools: []llm.ToolDef{{Name: "f"}}},
			script: []Step{Reply(Answer{Calls: []llm.Call{call("c1", "invented", `{}`)}, Input: 11, Output: 7})},
			want:   turn(llm.FinishCalls, call("c1", "invented", `{}`))},
		{name: "text and calls", script: []Step{Reply(Answer{Text: "I look.", Calls: whole, Input: 11, Output: 7})},
			want: llm.Turn{Text: "I look.", Calls: whole, Input: 11, Output: 7, Reason: llm.FinishCalls}},
		{name: "calls with finish reason stop", script: []Step{Reply(Answer{Calls: whole, Finish: "stop", Input: 11, Output: 7})}, want: both},
		{name: "calls without ids get ids of their own", wire: true,
			req: llm.Request{Messages: []llm.Message{{Role: llm.User, Text: "q"}, {Role: llm.Assistant, Calls: []llm.Call{call("call_0", "f", "{}")}},
				{Role: llm.Tool, CallID: "call_0", Text: "r"}}},
			script: []Step{ends("tool_calls", CallChunk(-1, "", "f", `{"a":1}`), CallChunk(-1, "", "f", `{"a":2}`), CallChunk(-1, "", "g", `{}`))},
			kind:   "", anyUsage: true, want: turn(llm.FinishCalls, call("call_3_0", "f", `{"a":1}`), call("call_3_1", "f", `{"a":2}`), call("call_3_2", "g", `{}`))},
	}
}

// textCases: text, reasoning, reasons and token counts.
func textCases() []contract {
	said := func(text string) llm.Turn { return llm.Turn{Text: text, Input: 11, Output: 7, Reason: llm.FinishStop} }
	long := strings.Repeat("x", 1<<20)
	flood := strings.Repeat(": keep-alive\n\n\n", 2000)
	estimated := func(t *testing.T, _ *Server, turn llm.Turn, _ *llm.Error) {
		if !turn.Estimated || turn.Input == 0 || turn.Output != 2 {
			t.Errorf("usage %+v, want an estimate of a quarter of the bytes that says so", turn)
		}
	}
	return []contract{
		{name: "text", script: []Step{Reply(Answer{Text: "Größer: 中 😀", Input: 11, Output: 7})}, want: said("Größer: 中 😀")},
		{name: "text with errors in it", script: []Step{Reply(Answer{Text: `it says {"error":{"message":"x"}} and "error": 1`, Input: 11, Output: 7})},
			want: said(`it says {"error":{"message":"x"}} and "error": 1`)},
		{name: "text split inside a character", wire: true, script: []Step{ends("stop", chunk("{\"content\":\"\xe4\"}"), chunk("{\"content\":\"\xb8\xad\"}"))}, want: said("中")},
		{name: "line of 1 MiB", script: []Step{Reply(Answer{Text: long, OneLine: true, Input: 11, Output: 7})}, want: said(long)},
		{name: "keep-alive flood", wire: true, script: []Step{Raw(flood + "data: " + TextChunk("a") + "\n\n" + flood +
			"data: " + TextChunk("b") + "\n\n" + flood + "data: " + FinishChunk("stop") + "\n\ndata: " + UsageChunk(11, 7) + "\n\ndata: [DONE]\n\n")}, want: said("ab")},
		{name: "framing of other servers", wire: true, script: []Step{Raw("\xEF\xBB\xBFid: 1\r\nevent: message\r\ndata:" + TextChunk("a") + "\r\n\r\n" +
			"retry: 5\ndata: " + TextChunk("b") + "\ndata: " + TextChunk("c") + "\n\ndata: ping\n\ndata: {\"choices\":[{\"index\":0,\ndata: \"delta\":{\"content\":\"d\"}}]}\n\n" +
			"data: " + FinishChunk("stop") + "\n\ndata: " + UsageChunk(11, 7) + "\n\ndata: [DONE]")}, want: said("abcd")},
		{name: "error field of null", wire: true, script: []Step{ends("stop", `{"error":null,"choices":[{"index":0,"delta":{"content":"a"}}]}`, `{"error": {}, "choices":[{"index":0,"delta":{"content":"b"}}]}`)}, want: said("ab")},
		{name: "reasoning_content", script: []Step{Reply(Answer{Reasoning: "hm", Text: "a", Input: 11, Output: 7})},
			want: llm.Turn{Reasoning: "hm", Text: "a", Input: 11, Output: 7, Reason: llm.FinishStop}},
		{name: "reasoning", not: chatOnly, script: []Step{Do(func(x *Exchange) {
			if !x.Request.Stream {
				x.Status(200, "application/json", `{"choices":[{"index":0,"message":{"role":"assistant","reasoning":"hm","content":"a"},"finish_reason":"stop"}],"usage":{"prompt_tokens":11,"completion_tokens":7}}`)
				return
			}
			x.Event(ReasoningChunk("reasoning", "h"), ReasoningChunk("reasoning", "m"), TextChunk("a"), FinishChunk("stop"), UsageChunk(11, 7), "[DONE]")
		})}, want: llm.Turn{Reasoning: "hm", Text: "a", Input: 11, Output: 7, Reason: llm.FinishStop}},
		{name: "reasoning in both fields", wire: true, script: []Step{ends("stop", chunk(`{"reasoning":"hm","reasoning_content":"hm"}`), TextChunk("a"))},
			want: llm.Turn{Reasoning: "hm", Text: "a", Input: 11, Output: 7, Reason: llm.FinishStop}},
		{name: "answer cut by its limit", script: []Step{Reply(Answer{Text: "a", Finish: "length", Input: 11, Output: 7})},
			want: llm.Turn{Text: "a", Input: 11, Output: 7, Reason: llm.FinishLength}},
		{name: "refusal", script: []Step{Refuse("I may not.")}, anyUsage: true, check: nil,
			want: llm.Turn{Text: "I may not.", Reason: llm.FinishRefused}},
		{name: "content filter", script: []Step{Reply(Answer{Text: "a", Finish: "content_filter", Input: 11, Output: 7})},
			want: llm.Turn{Text: "a", Input: 11, Output: 7, Reason: llm.FinishRefused}},
		{name: "usage with empty choices", script: []Step{Reply(Answer{Text: "a", Input: 123, Output: 45})},
			want: llm.Turn{Text: "a", Input: 123, Output: 45, Reason: llm.FinishStop}},
		{name: "usage in every event", wire: true, script: []Step{Events(`{"choices":[{"index":0,"delta":{"content":"a"}}],"usage":{"prompt_tokens":11,"completion_tokens":1}}`,
			FinishChunk("stop"), UsageChunk(11, 7), "[DONE]")}, want: said("a")},
		{name: "no usage", script: []Step{Reply(Answer{Text: "abcdefgh", NoUsage: true})}, anyUsage: true, want: llm.Turn{Text: "abcdefgh", Reason: llm.FinishStop}, check: estimated},
		{name: "no end mark but a finish reason", wire: true, script: []Step{Events(TextChunk("a"), FinishChunk("stop"))}, anyUsage: true, want: llm.Turn{Text: "a", Reason: llm.FinishStop}},
		{name: "cut after the finish reason", wire: true, script: []Step{Do(func(x *Exchange) { x.Event(TextChunk("a"), FinishChunk("stop")); x.Abort() })},
			anyUsage: true, want: llm.Turn{Text: "a", Reason: llm.FinishStop}},
		{name: "end mark but no finish reason", wire: true, script: []Step{Events(TextChunk("a"), "[DONE]")}, anyUsage: true, want: llm.Turn{Text: "a", Reason: llm.FinishStop}},
		{name: "whole answer to a stream", wire: true, script: []Step{Do(func(x *Exchange) {
			x.Request.Stream = false
			x.Reply(Answer{Reasoning: "hm", Text: "a", Calls: []llm.Call{call("c1", "f", "{}")}, Input: 11, Output: 7})
		})}, want: llm.Turn{Reasoning: "hm", Text: "a", Calls: []llm.Call{call("c1", "f", "{}")}, Input: 11, Output: 7, Reason: llm.FinishCalls}},
	}
}
