"""Chat templates of the families that matter, written small, and a tokenizer that knows their control tokens."""

from __future__ import annotations

from functools import cache
from typing import Any

from tests.models.tiny import CHATML, make_tokenizer

LLAMA3 = """\
{{- bos_token }}
{%- set given = namespace(tools=tools) %}
{%- for message in messages %}
{%- set role = 'ipython' if message.role == 'tool' else message.role %}
{%- set open = '<|start_header_id|>' + role + '<|end_header_id|>\\n\\n' %}
{%- if given.tools and message.role == 'user' %}
{{- open + 'You may call:\\n' }}
{%- for tool in given.tools %}{{- tool | tojson(indent=4) + '\\n\\n' }}{%- endfor %}
{{- message.content | trim + '<|eot_id|>' }}
{%- set given.tools = none %}
{%- elif message.tool_calls %}
{%- if message.tool_calls | length > 1 %}{{- raise_exception('one call at once') }}{%- endif %}
{%- set f = message.tool_calls[0].function %}
{{- open + '{"name": "' + f.name + '", "parameters": ' + (f.arguments | tojson) + '}<|eot_id|>' }}
{%- elif message.role == 'tool' %}
{{- open + (message.content | tojson) + '<|eot_id|>' }}
{%- else %}
{{- open + (message.content | trim) + '<|eot_id|>' }}
{%- endif %}
{%- endfor %}
{%- if given.tools %}{{- raise_exception('there is no first user message for the tools') }}{%- endif %}
{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{%- endif %}
"""
QWEN3 = """\
{%- if tools %}
{{- '<|im_start|>system\\n' + (messages[0].content + '\\n\\n' if messages[0].role == 'system' else '') + '<tools>' }}
{%- for tool in tools %}{{- '\\n' + (tool | tojson) }}{%- endfor %}
{{- '\\n</tools><|im_end|>\\n' }}
{%- elif messages[0].role == 'system' %}
{{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}
{%- endif %}
{%- set last = namespace(query=messages | length - 1, found=false) %}
{%- for message in messages[::-1] %}
{%- if not last.found and message.role == 'user' %}
{%- set last.query = messages | length - 1 - loop.index0 %}{%- set last.found = true %}
{%- endif %}
{%- endfor %}
{%- for message in messages %}
{%- if message.role == 'user' %}
{{- '<|im_start|>user\\n' + message.content + '<|im_end|>\\n' }}
{%- elif message.role == 'assistant' %}
{%- set thought, said = '', message.content %}
{%- if '</think>' in message.content %}
{%- set said = message.content.split('</think>')[-1].lstrip('\\n') %}
{%- set thought = message.content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
{%- endif %}
{{- '<|im_start|>assistant\\n' }}
{%- if loop.index0 > last.query and (loop.last or thought) %}
{{- '<think>\\n' + thought.strip('\\n') + '\\n</think>\\n\\n' + said.lstrip('\\n') }}
{%- else %}{{- said }}{%- endif %}
{%- for call in message.tool_calls or [] %}
{{- '\\n' if said or not loop.first else '' }}
{{- '<tool_call>\\n{"name": "' + call.function.name + '", "arguments": ' + (call.function.arguments | tojson) }}
{{- '}\\n</tool_call>' }}
{%- endfor %}
{{- '<|im_end|>\\n' }}
{%- elif message.role == 'tool' %}
{%- if loop.first or messages[loop.index0 - 1].role != 'tool' %}{{- '<|im_start|>user' }}{%- endif %}
{{- '\\n<tool_response>\\n' + message.content + '\\n</tool_response>' }}
{%- if loop.last or messages[loop.index0 + 1].role != 'tool' %}{{- '<|im_end|>\\n' }}{%- endif %}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n<think>\\n\\n</think>\\n\\n' }}{%- endif %}
"""
MISTRAL = """\
{%- if messages[0].role == 'system' %}
{%- set system, rest = messages[0].content, messages[1:] %}
{%- else %}{%- set system, rest = '', messages %}{%- endif %}
{%- set state = namespace(turn=0) %}
{%- for m in rest if m.role == 'user' or (m.role == 'assistant' and not m.tool_calls) %}
{%- if (m.role == 'user') != (state.turn % 2 == 0) %}
{{- raise_exception('roles must alternate user/assistant/user/assistant/...') }}
{%- endif %}
{%- set state.turn = state.turn + 1 %}
{%- endfor %}
{{- bos_token }}
{%- for m in rest %}
{%- if m.role == 'user' %}
{%- if tools and loop.last %}{{- '[AVAILABLE_TOOLS] ' + (tools | tojson) + '[/AVAILABLE_TOOLS]' }}{%- endif %}
{{- '[INST] ' + (system + '\\n\\n' if loop.first and system else '') + m.content + '[/INST]' }}
{%- elif m.tool_calls %}
{{- '[TOOL_CALLS] ' }}{{- m.tool_calls | map(attribute='function') | list | tojson }}{{- eos_token }}
{%- elif m.role == 'assistant' %}{{- ' ' + m.content | trim + eos_token }}
{%- elif m.role == 'tool' %}{{- '[TOOL_RESULTS] ' + m.content + '[/TOOL_RESULTS]' }}
{%- else %}{{- raise_exception('only user, assistant and tool roles, after a first system message') }}
{%- endif %}
{%- endfor %}
"""
PHI = """\
{%- for m in messages %}{{- '<|' + m.role + '|>\\n' + m.content + '<|end|>\\n' }}{%- endfor %}
{%- if add_generation_prompt %}{{- '<|assistant|>\\n' }}{%- endif %}
"""
ALPACA = """\
{%- for m in messages %}{{- '### ' + m.role + ':\\n' + m.content + '\\n\\n' }}{%- endfor %}
{%- if add_generation_prompt %}{{- '### assistant:\\n' }}{%- endif %}
"""
DATED = "{{- '<|im_start|>system\\nToday is ' + strftime_now('%d %B %Y') + '.<|im_end|>\\n' }}" + CHATML
DROPS_CALLS = """\
{%- for m in messages %}{{- '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}
"""
TEMPLATES = {
    "chatml": CHATML, "llama3": LLAMA3, "qwen3": QWEN3, "mistral": MISTRAL, "phi": PHI, "alpaca": ALPACA,
    "dated": DATED, "drops calls": DROPS_CALLS,
}  # fmt: skip
_CONTROL = (
    "<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "[INST]", "[/INST]",
    "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]", "[TOOL_CALLS]", "[TOOL_RESULTS]", "[/TOOL_RESULTS]", "<tools>",
)  # fmt: skip


@cache
def tokenizer(family: str) -> Any:
    """A tokenizer with the template of a family, and the control tokens of all."""
    from transformers import AddedToken

    made = make_tokenizer(TEMPLATES[family])
    made.add_tokens([AddedToken(t, special=True, normalized=False) for t in _CONTROL], special_tokens=True)
    # Phi's tokens swallow the white space behind them.
    of_phi = ("<|system|>", "<|user|>", "<|assistant|>", "<|tool|>", "<|end|>")
    made.add_tokens([AddedToken(t, rstrip=True, special=True, normalized=False) for t in of_phi], special_tokens=True)
    made.bos_token = "<|begin_of_text|>"
    return made
