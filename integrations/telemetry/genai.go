package telemetry

// Names of the semantic conventions for generative AI, as
// github.com/open-telemetry/semantic-conventions-genai had them in June 2026 (status
// Development, no release). They left the Go package with semconv v1.42, so they are
// kept here, and only here: when the conventions move, this file does.
const (
	attrOperation    = "gen_ai.operation.name"
	attrProvider     = "gen_ai.provider.name"
	attrAgent        = "gen_ai.agent.name"
	attrConversation = "gen_ai.conversation.id"
	attrModel        = "gen_ai.request.model"
	attrInputTokens  = "gen_ai.usage.input_tokens"
	attrOutputTokens = "gen_ai.usage.output_tokens"
	attrTool         = "gen_ai.tool.name"
	attrToolCall     = "gen_ai.tool.call.id"
	attrToolArgs     = "gen_ai.tool.call.arguments"
	attrToolResult   = "gen_ai.tool.call.result"
	attrInput        = "gen_ai.input.messages"
	attrOutput       = "gen_ai.output.messages"
	attrError        = "error.type"

	opAgent = "invoke_agent"
	opChat  = "chat"
	opTool  = "execute_tool"
)

// Names of gumshoe's own, for what the conventions have no word for.
const (
	attrOutcome = "gumshoe.outcome"
	attrCause   = "gumshoe.cause"
	attrCost    = "gumshoe.cost"
	attrState   = "gumshoe.plan.state"
	attrPlan    = "gumshoe.plan.id"
	opPlan      = "execute_plan"
)
