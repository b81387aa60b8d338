#!/usr/bin/env python3
"""Makes tests/fixtures/jinja.jsonl: templates, and what Jinja2 itself prints for them or says about them.

The environment is the one that chat templates run in: sandboxed, immutable, trim_blocks, lstrip_blocks, loop controls,
json.dumps as tojson, raise_exception, strftime_now, and a generation tag that notes where its text lies. Run it with a
Python that has Jinja2 3.1: python3 tests/oracle/jinja.py > tests/fixtures/jinja.jsonl
"""
import datetime
import json
import traceback

import jinja2
from jinja2 import nodes
from jinja2.exceptions import SecurityError, TemplateError, TemplateRuntimeError, TemplateSyntaxError, UndefinedError
from jinja2.ext import Extension
from jinja2.sandbox import ImmutableSandboxedEnvironment

VARIABLES = {'messages': [{'role': 'user', 'content': ' Hi '},
              {'role': 'assistant', 'content': 'Yo'},
              {'role': 'user', 'content': 'x<y & "z"'}],
 's': ' Hello World ',
 'n': 3,
 'z': 0,
 'f': 1.5,
 't': True,
 'e': '',
 'no': None,
 'l': [3, 1, 2],
 'd': {'b': 1, 'a': [1, {'k': 'v é'}], 'items2': 'q'},
 'uni': 'é日😀',
 'bos_token': '<s>',
 'tools': None}

# One template a line; a newline in a template is written as the sign ⏎, and a line that begins with ↪ goes on with the
# template of the line before.
CASES = r"""
## Operators, literals, undefined values, formatting
{{ 7 // 2 }} {{ -7 // 2 }} {{ 7 % -3 }} {{ -7 % 3 }} {{ 7.5 // 2 }} {{ -7.5 % 2 }} {{ 2 ** 10 }} {{ 2 ** -1 }}
↪ {{ 2 ** 0.5 }} {{ -2 ** 2 }} {{ 2 ** 3 ** 2 }}
{{ 2 ** 62 }} {{ -3 ** 39 }} {{ 10 ** 18 // 7 }} {{ 12345678901234567890123 }} {{ 9223372036854775807 }}
↪ {{ 12345678901234567890 is integer }} {{ 1_000_000 }} {{ 1e3 }} {{ 1.5e-7 }} {{ 1e16 }} {{ 123456789012345680.0 }}
↪ {{ 1e22 }} {{ 0.1 + 0.2 }} {{ 1e-5 }} {{ 0.0001 }} {{ 5. }}
{{ 1 / 0 }}
{{ 1 // 0 }}
{{ 1 % 0 }}
{{ 1.0 / 0 }}
{{ 1.0 // 0 }}
{{ 1.0 % 0 }}
{{ 0 ** -1 }}
{{ 'a' + 1 }}
{{ 1 + 'a' }}
{{ [1] + 'a' }}
{{ [1] + (2,) }}
{{ (1,) + [2] }}
{{ none + 1 }}
{{ {} + {} }}
{{ 'a' * 'b' }}
{{ [1] * 1.5 }}
{{ 1.5 * 'a' }}
{{ 'a' - 'b' }}
{{ 'a' ** 2 }}
{{ 'ab' * 3 }} {{ 2 * [1, 2] }} {{ (1,) * 2 }} {{ 'a' * -1 }}|
{{ -'a' }}
{{ +none }}
{{ -none }}
{{ 1 < 2 < 3 }} {{ 1 < 3 < 2 }} {{ 3 > 2 >= 2 != 1 }} {{ 1 == 1.0 == true }}
{{ 'a' < 1 }}
{{ 1 >= 'a' }}
{{ none > none }}
{{ [1,2] < [1,3] }} {{ (1,) < (1,2) }} {{ [1] == (1,) }} {{ {'a':1} == {'a':1.0} }} {{ [1,[2]] <= [1,[2]] }}
{{ [1] < (1,) }}
{{ {} < {} }}
{{ 1 in 5 }}
{{ 1 in 'abc' }}
{{ 'a' in none }}
{{ [1] in {} }}
{{ 'a' in undef }} {{ undef in [1] }}
{{ undef in 'abc' }}
{{ undef == undef2 }} {{ undef == none }} {{ undef != 1 }}
{{ undef < 1 }}
{{ 1 < undef }}
{{ undef.x }}
{{ undef['x'] }}
{{ undef() }}
{{ undef|length }} {{ undef|list }} {{ undef|upper }}|{{ undef|join }}|{{ undef is defined }} {{ undef is none }}
↪ {{ undef is string }}
{{ -undef }}
{{ undef + 1 }}
{{ 'a' + undef }}
{{ [1] + undef }}
{{ undef * 2 }}
{{ 'x' ~ undef ~ 1 ~ none ~ 1.0 ~ true }}
{{ not undef }} {{ undef and 1 }} {{ undef or 2 }} {{ 1 and 2 }} {{ 0 or '' or none }} {{ '' and x.y }}
{{ [1,2,3][1:] }} {{ [1,2,3][::-1] }} {{ [1,2,3][-2:] }} {{ 'hello'[1:4] }} {{ 'hello'[-3:-1] }} {{ 'hello'[::2] }}
↪ {{ 'hello'[4:1:-1] }} {{ 'hello'[10:] }}| {{ (1,2,3)[:2] }} {{ range(10)[2:5]|list }}
{{ 'abc'[::0] }}
{{ undef[1:] }}
{{ d['a'][1]['k'] }} {{ d.a.1.k }} {{ d.a[0] }} {{ d['items2'] }} {{ d.items2 }}
{{ d.nope }}|{{ d['nope'] }}|{{ l[99] }}|{{ l.foo }}|{{ 'abc'[7] }}|{{ 'abc'.foo }}|{{ 5 .foo }}|{{ none.foo }}|{{
↪ none['x'] }}
{{ d.nope.x }}
{{ d['nope'].x }}
{{ d[5].x }}
{{ d[[1]].x }}
{{ l[99].x }}
{{ l['a'].x }}
{{ l.foo.x }}
{{ 'abc'[7].x }}
{{ 'abc'.foo.x }}
{{ none.foo.x }}
{{ none['foo'].x }}
{{ n.foo.x }}
{{ f.foo.x }}
{{ t.foo.x }}
{{ (1,2).foo.x }}
{{ range(3).foo.x }}
{{ range(3)[7].x }}
{{ namespace(a=1).b.x }}
{{ namespace(a=1) }} {{ namespace({'a':2}).a }} {{ namespace(a=1)['a'] }}
{{ range.foo.x }}
{{ cycler.foo.x }}
{{ (l|map('string')).foo.x }}
{{ d.items().foo.x }}
{{ d.items()[0].x }}
{{ 1() }}
{{ 'a'() }}
{{ none() }}
{{ d.a() }}
{{ [1, 2.0, 'a', "it's", 'say "hi"', 'both \' and "', none, true, (1,), (), {}, [], {'a': {'b': 1}}] }}
{{ d.keys() }} {{ d.values() }} {{ {'a':1}.items() }} {{ range(5) }} {{ range(1,10,2) }}
{{ 'a' 'b' "c" }} {{ 'x' 'y' ~ 'z' }}
{{ 'line \⏎continued' }}
{{ '\x4' }}
{{ '\u12' }}
{{ '\U00110000' }}
{{ 1 if true }} {{ 1 if false }}| {{ 1 if false else 2 if false else 3 }} {{ (1 if true else 2) + 1 }}
{{ (1 if false).x }}
{{ 1,2 }} {{ (1,) }} {{ () }} {{ 1, }}
{{ [1,2,] }} {{ {'a':1,} }} {{ {1:2, none:3, (1,2):4, 1.5:5} }}
{{ {[1]:2} }}
{{ {1: 'a', true: 'b', 1.0: 'c'} }}
## Methods, tests, global functions
{{ ' a b '.strip() }}|{{ 'xxaxx'.strip('x') }}|{{ 'xya'.lstrip('yx') }}|{{ 'a\u00a0\u3000'.rstrip() }}|{{
↪ 'éaé'.strip('é') }}
{{ 'a b  c'.split() }} {{ 'a,b,c'.split(',') }} {{ 'a,b,c'.split(',', 1) }} {{ 'a,b,c'.rsplit(',', 1) }}
↪ {{ ' a b '.split(' ') }} {{ 'a b c'.split(none, 1) }} {{ 'a b c d'.rsplit(none, 2) }}
↪ {{ ' a  b  c '.split(maxsplit=1) }} {{ ''.split() }} {{ ''.split(',') }} {{ 'a b c '.rsplit(maxsplit=1) }}
{{ 'a'.split('') }}
{{ 'a\nb\r\nc\rd\n'.splitlines() }} {{ 'a\nb'.splitlines(true) }} {{ 'a\n\nb'.splitlines(keepends=True) }}
↪ {{ ''.splitlines() }}
{{ 'abc'.startswith('ab') }} {{ 'abc'.startswith(('x','a')) }} {{ 'abc'.endswith('bc', 2) }}
↪ {{ 'abc'.startswith('b', 1) }} {{ 'abc'.endswith(()) }}
{{ 'abc'.startswith(1) }}
{{ 'abc'.startswith([1]) }}
{{ 'abc'.endswith((1,)) }}
{{ 'aaa'.replace('a','b') }} {{ 'aaa'.replace('a','b',2) }} {{ 'abc'.replace('','-') }}
↪ {{ 'aé'.replace('','-',2) }} {{ ''.replace('','x') }}
{{ 'abc'.replace('a') }}
{{ 'abc'.replace(1,2) }}
{{ 'abc'.upper(1) }}
{{ 'abc'.upper(x=1) }}
{{ 'abc'.join() }}
{{ ','.join([1]) }}
{{ ','.join(1) }}
{{ ','.join(['a','b']) }} {{ ','.join('abc') }} {{ ','.join({'a':1}) }}
{{ 'hello'.find('l') }} {{ 'hello'.rfind('l') }} {{ 'hello'.find('z') }} {{ 'héllo'.find('l') }}
↪ {{ 'hello'.find('l', 3) }} {{ 'hello'.find('l', 4, 5) }} {{ 'hello'.index('e') }} {{ 'hello'.find('') }}
↪ {{ 'hello'.rfind('') }} {{ 'hello'.find('', 9) }} {{ 'hello'.rindex('l') }}
{{ 'hello'.index('z') }}
{{ 'prefix-x'.removeprefix('prefix-') }} {{ 'x.py'.removesuffix('.py') }} {{ 'ab'.removeprefix('b') }}
{{ d.get('b') }} {{ d.get('zz') }} {{ d.get('zz', 5) }} {{ d.items()|list }} {{ d.keys()|list }} {{ d.values()|list }}
{{ d.get() }}
{{ d.get(key='b') }}
{{ d.get([1]) }}
{{ d.pop('b') }}
{{ d.clear() }}
{{ d.setdefault('q', 1) }}
{{ d.popitem() }}
{{ l.append(1) }}
{{ l.extend([1]) }}
{{ l.sort() }}
{{ l.reverse() }}
{{ l.insert(0,1) }}
{{ l.remove(1) }}
{{ l.append is defined }} {{ l.append }}|
{{ [1,2,3].pop() }} {% set q = [1,2,3] %}{{ q.pop(0) }}{{ q }}
{{ [].pop() }}
{{ 'abc'.__class__ }}|
{{ 'abc'.__class__.x }}
{{ l.__len__ }}|{{ l.__init__ }}|{{ d.__getitem__ }}|{{ ''.__foo__ }}|{{ ''._x }}
{{ l.__init__() }}
{{ d._x.y }}
{{ dict(a=1) }} {{ dict([('a',1),('b',2)]) }} {{ dict({'x':1}, y=2) }} {{ dict() }}
{{ dict([1]) }}
{{ dict(['abc']) }}
{{ dict(1) }}
{{ dict({}, {}) }}
{{ range(3)|list }} {{ range(5, 0, -2)|list }} {{ range(0) }} {{ range(3)[1] }} {{ range(3)|length }}
↪ {{ 2 in range(3) }} {{ range(3) == range(0,3) }} {{ range(3)|reverse|list }} {{ range(3)[-1] }}
{{ range() }}
{{ range(1,2,3,4) }}
{{ range('a') }}
{{ range(1.5) }}
{{ range(1,5,0) }}
{{ range(100001) }}
{{ range(1000000000000) }}
{{ raise_exception('a' ~ 1) }}
{{ raise_exception(1) }}
{{ raise_exception(message='x') }}
{{ strftime_now('%Y-%m-%d %H:%M:%S %d %b %B %a %A %j %y %f|%z|%Z|%%') }}
{{ strftime_now(1) }}
{{ strftime_now('') }}|
{{ l is sequence }} {{ d is mapping }} {{ 's' is string }} {{ 1 is number }} {{ true is number }}
↪ {{ 1 is integer }} {{ true is integer }} {{ 1.0 is float }} {{ true is boolean }} {{ none is none }}
↪ {{ l is iterable }} {{ 5 is iterable }} {{ d is sequence }} {{ 's' is iterable }} {{ range is callable }}
↪ {{ 's' is callable }} {{ 's'.upper is callable }}
{{ 1 is odd }} {{ 2 is even }} {{ 10 is divisibleby 5 }} {{ 10 is divisibleby(3) }} {{ 1 is eq 1 }} {{ 1 is ne 2 }}
↪ {{ 1 is lt 2 }} {{ 2 is gt 1 }} {{ 2 is ge 2 }} {{ 1 is le 0 }} {{ 1 is equalto 1 }} {{ 1 is lessthan 2 }}
↪ {{ 1 is greaterthan 0 }} {{ 1 is in [1] }} {{ 1 is not in [2] }}
{{ 'a' is odd }}
{{ none is even }}
{{ 1.5 is odd }} {{ 3.0 is odd }}
{{ 1 is sameas 1 }} {{ 1 is sameas 1.0 }} {{ none is sameas none }} {{ true is sameas true }} {{ l is sameas l }}
↪ {{ [1] is sameas [1] }} {{ true is true }} {{ 1 is true }} {{ 0 is false }} {{ false is false }}
{{ 1 is defined and 2 is defined }} {{ x is not defined }} {{ not x is defined }} {{ 1 is odd is even }}
{{ 1 is nosuch }}
{{ 1 is divisibleby }}
{{ 1 is divisibleby(1,2) }}
{{ 'a'|nosuch }}
{% if false %}{{ 'a'|nosuch }}{% endif %}x
{% if true %}{{ 'a'|nosuch }}{% endif %}x
{% if true %}{{ 1 is nosuch }}{% endif %}x
{{ 'a'|nosuch if false else 'ok' }}
{% for i in [1] %}{% if false %}{{ i|nosuch }}{% endif %}{% endfor %}x
{% if false %}{% for i in [1] %}{{ i|nosuch }}{% endfor %}{% endif %}
{{ 'a'|upper(1) }}
{{ 'a'|replace('b') }}
{{ 'a'|replace }}
{{ 'a'|trim('a','b') }}
{{ [1]|map('nosuch')|list }}
{{ [1]|select('nosuch')|list }}
{{ [1]|map|list }}
{{ [1]|map(foo=1)|list }}
{{ [1]|map(attribute='x', foo=1)|list }}
{{ [1]|map(undef)|list }}
## Filters
{{ 'ab cd'|capitalize }} {{ 'AB cd'.capitalize() }} {{ 'straße'|capitalize }} {{ 'ßa'|capitalize }}
{{ undef|default('x') }} {{ ''|default('x') }}| {{ ''|d('x', true) }} {{ none|default('x') }} {{ undef|default }}|
↪ {{ none|d('y', boolean=true) }} {{ undef|d(default_value=3) }}
{{ {'b':1,'A':2,'c':0}|dictsort }} {{ {'b':1,'A':2}|dictsort(true) }} {{ {'b':1,'a':2}|dictsort(by='value') }}
↪ {{ {'b':1,'a':2}|dictsort(reverse=true) }} {{ {'b':1,'a':2}|dictsort(false,'value',true) }}
{{ {'b':1}|dictsort(by='x') }}
{{ [1]|dictsort }}
{{ {1:2,'a':3}|dictsort }}
{{ '<a href="x">\'&'|e }} {{ '<'|e|e }} {{ '<'|e|forceescape }} {{ 5|e }} {{ '<'|safe }} {{ ('<'|e) + '<' }}
↪ {{ '<' + ('<'|e) }} {{ ('<'|e) ~ '<' }} {{ ['<'|e] }} {{ ('<'|safe)|tojson }}
{{ [1,2]|first }} {{ [1,2]|last }} {{ 'abc'|first }}{{ 'abc'|last }} {{ []|first }}|{{ []|last }}|
↪ {{ {'a':1}|first }} {{ {'a':1,'b':2}|last }} {{ range(3)|last }}
{{ ([]|first).x }}
{{ ([]|last).x }}
{{ 5|first }}
{{ 5|last }}
{{ ([1]|map('string'))|last }}
{{ '3.5'|float }} {{ 'x'|float }} {{ 'x'|float(1.5) }} {{ none|float }} {{ 3|float }} {{ '1e3'|float }}
↪ {{ ' 2 '|float }} {{ 'inf'|float }} {{ 'nan'|float }} {{ [1]|float }} {{ '1_000'|float }} {{ '-Infinity'|float }}
{{ '42'|int }} {{ '42.7'|int }} {{ 'x'|int }} {{ 'x'|int(5) }} {{ 3.9|int }} {{ -3.9|int }} {{ none|int }}
↪ {{ ' 7 '|int }} {{ '1_0'|int }} {{ true|int }} {{ [1]|int }} {{ '12345678901234567890'|int }} {{ '1e3'|int }}
↪ {{ ''|int }} {{ '-00012345678901234567890'|int }} {{ '+7'|int }} {{ '0x1A'|int }}
{{ 'inf'|int }}
{{ undef|int }}
{{ undef|float }}
{{ 'a\nb\n\nc'|indent }} {{ 'a\nb'|indent(2) }} {{ 'a\nb'|indent(2, true) }} {{ 'a\n\nb'|indent(2, blank=true) }}
↪ {{ 'a\nb'|indent('>>') }} {{ 'a\n'|indent }}| {{ ''|indent(2,true) }}| {{ 'a\nb'|indent(width=1, first=True) }}
{{ 5|indent }}
{{ [1]|indent }}
{{ undef|indent }}
{{ d|items|list }} {{ undef|items|list }}
{{ [1]|items|list }}
{{ [1,'a',none,2.5]|join('-') }} {{ 'abc'|join(',') }} {{ {'a':1,'b':2}|join(',') }}
↪ {{ messages|join('|', attribute='role') }} {{ [1,2]|join(5) }} {{ [[1,2],[3]]|join(',', 0) }}
{{ 5|join }}
{{ none|join(',') }}
{{ 'abc'|length }} {{ [1]|count }} {{ d|length }} {{ undef|length }} {{ (1,2)|length }}
{{ 5|length }}
{{ none|length }}
{{ ([1]|map('string'))|length }}
{{ (d.items())|length }} {{ d.keys()|length }}
{{ 'abc'|list }} {{ d|list }} {{ (1,2)|list }} {{ 5.5|string|list }}
{{ 5|list }}
{{ 'ABC'|lower }} {{ 5|lower }} {{ none|upper }} {{ [1]|upper }} {{ 'ÀÉÎŻ ΆΩ ЁЖ Ǘ Ệ straße'|lower }}
↪ {{ 'àéîż άω ёж ǘ ệ ÿ straße ÷'|upper }}
{{ [1,2]|map('string')|list }} {{ messages|map(attribute='role')|list }}
↪ {{ [{'a':{'b':1}}]|map(attribute='a.b')|list }} {{ [{}]|map(attribute='x', default='q')|list }}
↪ {{ ['a','b']|map('replace','a','z')|list }} {{ [[1,2]]|map('join',',')|list }} {{ [[5,6]]|map(attribute=1)|list }}
↪ {{ [[5,6]]|map(attribute='0')|list }} {{ [{}]|map(attribute='x')|list }} {{ undef|map('upper')|list }}
↪ {{ none|map('upper')|list }}
{{ [1,2,3,4]|select('odd')|list }} {{ [1,2,3,4]|reject('odd')|list }} {{ [0,1,'',none,'a']|select|list }}
↪ {{ [0,1]|reject|list }} {{ [1,2,3]|select('gt', 1)|list }} {{ [1,2,3]|select('in',[1,2])|list }}
↪ {{ messages|selectattr('role','eq','user')|map(attribute='content')|list }}
↪ {{ [{'a':1},{'a':0},{}]|selectattr('a')|list }} {{ [{'a':1},{}]|rejectattr('a')|list }}
↪ {{ [{'a':1},{}]|selectattr('a','defined')|list }} {{ [{'a':1},{}]|rejectattr('a','undefined')|list }}
↪ {{ [{'a':{'b':1}}]|selectattr('a.b','eq',1)|list }} {{ [1,2,3]|select('divisibleby', 2)|list }}
↪ {{ [1,2]|select('==', 2)|list }} {{ [1,2]|reject('>', 1)|list }}
{{ [1]|selectattr|list }}
{{ [1]|select('gt')|list }}
{{ 'aXbX'|replace('X','y') }} {{ 'aXbX'|replace('X','y',1) }} {{ 5|replace(5,6) }} {{ 'a'|replace('a',none) }}
↪ {{ 'abab'|replace('a','x',count=1) }}
{{ 5|reverse }}
{{ [3,1,2]|sort }} {{ ['b','A','c']|sort }} {{ ['b','A']|sort(case_sensitive=true) }}
↪ {{ [3,1,2]|sort(reverse=true) }} {{ [{'a':2,'b':1},{'a':1,'b':2},{'a':1,'b':1}]|sort(attribute='a,b') }}
↪ {{ [{'a':2},{'a':1}]|sort(attribute='a') }} {{ 'cab'|sort }} {{ {'b':1,'a':2}|sort }} {{ [[2,1],[1,2]]|sort }}
↪ {{ [true, 0, 2]|sort }} {{ [(1,'b'),(1,'a')]|sort(attribute=1) }} {{ ['b','a','B','A']|sort }}
↪ {{ ['b','a','B','A']|sort(true) }}
{{ [1,'a']|sort }}
{{ [none,1]|sort }}
{{ 5|sort }}
{{ [{'a':1},{}]|sort(attribute='a') }}
{{ 5|string }} {{ none|string }} {{ [1]|string }} {{ 1.0|string }}
{{ 'foo bar-baz (qux [x {y <z'|title }} {{ "it's o'neil"|title }} {{ 'HELLO wORLD'|title }} {{ 'a\tb\nc'|title }}
↪ {{ 'élan ß'|title }} {{ 5|title }} {{ ' x  y '|title }} {{ 'élan ß'.title() }}
↪ {{ 'ñandú ÀÉ żółw ήλιος ЁЖ ёж'|title }}
{{ d|tojson }} {{ d|tojson(indent=2) }} {{ [1,2.0,true,none,'é"\n</x>']|tojson }} {{ []|tojson(indent=2) }}
↪ {{ {}|tojson(indent=1) }} {{ d|tojson(separators=(',',':')) }}
↪ {{ {'b':1,'a':[2,{'d':1,'c':2}]}|tojson(sort_keys=true) }} {{ 'é😀'|tojson(true) }} {{ (1,2)|tojson }}
↪ {{ {1:2,none:3,true:4,1.5:5}|tojson }} {{ d|tojson(indent='--') }} {{ [[],{}]|tojson(indent=2) }}
↪ {{ d|tojson(ensure_ascii=True, indent=4) }} {{ 1e20|tojson }} {{ ('nan'|float)|tojson }}
↪ {{ [1,[2]]|tojson(indent=0) }} {{ '\x7f\u2028'|tojson }} {{ [1,2]|tojson(indent=1,separators=(';','=')) }}
{{ undef|tojson }}
{{ range(3)|tojson }}
{{ ([1]|map('string'))|tojson }}
{{ d.items()|tojson }}
{{ {(1,2):1}|tojson }}
{{ namespace()|tojson }}
{{ {1:1,'a':2}|tojson(sort_keys=true) }}
{{ ' a '|trim }}| {{ 'xax'|trim('x') }} {{ 5|trim }} {{ '\n a\t'|trim }}|{{ none|trim }} {{ ' a'|trim(chars=none) }}
{{ [1,2,1,'a','A']|unique|list }} {{ ['a','A']|unique(true)|list }}
↪ {{ [{'a':1,'b':1},{'a':1,'b':2}]|unique(attribute='a')|list }} {{ [1,1.0,true]|unique|list }}
{{ [[1]]|unique|list }}
{% set g = [1,2]|map('string') %}{{ g|list }}{{ g|list }} {{ '1' in ([1]|map('string')) }}
{{ ([1,2]|map('string'))[0] }}|{{ ([1]|select).foo }}|
{{ 'a'|upper|lower|title ~ 'b'|upper }} {{ 1 + 2|string|length }} {{ -1|int }} {{ (-5)|string }} {{ 'a' * 2|int }}
↪ {{ not 'a'|upper == 'A' }}
{{ 'abc'|e.upper() }}
{{ ['a']|first.upper() }}
{{ messages|map(attribute='content')|join(', ')|upper }} {{ messages[0]['content'].strip().lower() }}
↪ {{ (messages|first).role }}
{{ [1,2,3]|join(',')|length }} {{ "a" if [1]|length > 0 else "b" }} {{ [1,2]|length / 2 }}
↪ {{ [[1,2],[3,4]]|map('last')|list }} {{ ['a','b']|map('upper')|join }}
{{ {'a':1}|d }} {{ 'x'|d('y') }} {{ [undef]|d }}
{{ [undef, undef.x is defined] }}
{{ [undef] }} {{ {'a': undef} }} {{ [undef]|join(',') }}|
{{ ('a', 'b')|join }} {{ [('a',1)]|map('first')|list }} {{ [' a ']|map('trim')|list }} {{ ['1','2']|map('int')|list }}
## Statements, scopes, macros, spans, white space
{% for i in [1,2,3] %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.first }}{{
↪ loop.last }}{{ loop.length }}{{ loop.previtem }}{{ loop.nextitem }}{{ loop.depth }}{{ loop.depth0 }};{% endfor %}
{% for i in [] %}x{% else %}empty{% endfor %} {% for i in [1] %}x{% else %}empty{% endfor %}
↪ {% for i in undef %}x{% else %}e{% endfor %}
{% for i in none %}x{% endfor %}
{% for i in 5 %}x{% endfor %}
{% for a, b in [(1,2),[3,4]] %}{{ a }}{{ b }}
↪ {% endfor %}{% for a, (b, c) in [(1,(2,3))] %}{{ a }}{{ b }}{{ c }}{% endfor %}{% for k in d %}{{ k }}
↪ {% endfor %}{% for c in 'héy' %}{{ c }}.{% endfor %}
{% for a, b in [1] %}{% endfor %}
{% for a, b in [(1,)] %}{% endfor %}
{% for a, b in [(1,2,3)] %}{% endfor %}
{% for a, b in ['xy'] %}{{ a }}{{ b }}{% endfor %}
{% for i in [1,2,3,4,5,6] if i is even %}{{ loop.index }}/{{ loop.length }}:{{ i }}{{ loop.last }}
↪ {% else %}none{% endfor %} {% for i in [1] if i > 5 %}x{% else %}none{% endfor %}
{% for i in range(6) %}{% if i == 4 %}{% break %}{% endif %}{% if i is odd %}{% continue %}{% endif %}{{ i }}{%
↪ endfor %}
{% for i in [1] %}{% break %}{% else %}E{% endfor %}|
{% for i in [1,2] %}{% for j in [1,2] %}{% if j == 2 %}{% break %}{% endif %}{{ i }}{{ j }}
↪ {% endfor %}{{ loop.index }}{% endfor %}
{% for i in [1,1,2] %}{{ loop.changed(i) }}{{ loop.cycle('a','b') }} {% endfor %}
{% for i in [1] %}{{ loop.cycle() }}{% endfor %}
{% for i in [1] %}{{ loop.nope.x }}{% endfor %}
{% for i in [1] %}{{ loop.previtem.x }}{% endfor %}
{% for i in [1] %}{{ loop.nextitem.x }}{% endfor %}
{% for i in [1] %}{{ loop([2]) }}{% endfor %}
{% for i in [1,2] %}{{ loop|length }}{{ loop }}{% endfor %}
{% set x = 0 %}{% for i in [1,2] %}{% set x = i %}{{ x }}{% endfor %}{{ x }}
↪ {% for i in [1,2,3] %}{{ x }}{% set x = x + i %}{{ x }};{% endfor %}{{ x }}
↪ {% if true %}{% set x = 9 %}{% endif %}{{ x }}
{% set ns = namespace(c=0) %}{% for i in [1,2,3] %}{% set ns.c = ns.c + i %}{% endfor %}{{ ns.c }}
↪ {% set ns.x %}blk{{ ns.c }}{% endset %}{{ ns.x }}
{% set q = {} %}{% set q.a = 1 %}
{% set undef.a = 1 %}
{% set a, b = 1, 2 %}{{ a }}{{ b }} {% set (c, d2) = [3,4] %}{{ c }}{{ d2 }} {% set x = 1, 2 %}{{ x }}
{% set a, b = 1 %}
{% set a, b = none %}
{% set a, b = undef %}
{% set x %}a{{ 1 }}{% endset %}{{ x }}|{{ x is string }} {% set x | upper | trim %} ab {% endset %}{{ x }}|
↪ {% set y %}{% set z = 5 %}{{ z }}{% endset %}{{ y }}{{ z }}
{% with a = 1, b = 2 %}{{ a }}{{ b }}{% set c = 3 %}{{ c }}{% endwith %}{{ a }}{{ c }}|
↪ {% with %}{% set q = 1 %}{{ q }}{% endwith %}{{ q }}
↪ {% set a = 5 %}{% with a = a + 1, b = a %}{{ a }}{{ b }}{% endwith %}
↪ {% with a, b = (1,2) %}{{ a }}{{ b }}{% endwith %}
{% filter upper %}abc{{ 'd' }}{% endfilter %} {% filter replace('a','b')|upper %}banana{% endfilter %}
↪ {% filter indent(2) %}a⏎b{% endfilter %}
{% macro m(a, b=2, c=b) %}{{ a }}{{ b }}{{ c }}{% endmacro %}{{ m(1) }} {{ m(1,5) }} {{ m(a=0, c=3) }} {{ m() }}|
↪ {{ m(*[1,2]) }} {{ m(**{'a':1,'c':9}) }} {{ m(1, *[2], **{'c':3}) }}
{% macro m(a) %}{{ a.x }}{% endmacro %}{{ m() }}
{% macro m(a) %}{% endmacro %}{{ m(1,2) }}
{% macro m(a) %}{% endmacro %}{{ m(b=2) }}
{% macro m(a) %}{% endmacro %}{{ m(1, a=2) }}
{% macro m() %}x{% endmacro %}{{ m() }} {{ m }} {{ m.name }} {{ m is callable }}
{% macro m(caller) %}{% endmacro %}
{% macro fact(n) %}{{ 1 if n <= 1 else n * fact(n-1)|int }}{% endmacro %}{{ fact(5) }}
↪ {% set y = 3 %}{% macro g() %}{{ y }}{% endmacro %}{% set y = 4 %}{{ g() }}
{% macro a() %}{{ b() }}{% endmacro %}{% macro b() %}B{% endmacro %}{{ a() }}
↪ {% for i in [1,2] %}{% macro f() %}{{ i }}{% endmacro %}{{ f() }}{% endfor %}
{% macro m() %}{% set v = 1 %}{{ v }}{% endmacro %}{{ m() }}{{ v }}|
↪ {% if true %}{% macro k() %}K{% endmacro %}{% endif %}{{ k() }}
{% macro m() %}{{ loop.index }}{% endmacro %}{% for i in [1,2] %}{{ m() }}{% endfor %}
{% macro __x() %}p{% endmacro %}{{ __x() }} {% macro m(a,b) %}{{ a }}{{ b is defined }}{% endmacro %}{{ m(1) }}
{% if 0 %}a{% elif none %}b{% elif 'x' %}c{% else %}d{% endif %} {% if not l %}a{% else %}b{% endif %}
↪ {% if l and d or z %}y{% endif %} {% if n == 3: %}colon{% endif %}
{% raw %}{{ x }}{% if %}{# c #}{% endraw %}|{%- raw -%} {{ y }} {%- endraw -%} z
{% generation %}a{% endgeneration %} {% set z = 1 %}{% generation %}{% set z = 2 %}{{ z }}{% endgeneration %}{{ z }}
x{% macro m() %}a{% generation %}bc{% endgeneration %}d{% endmacro %}y{{ m() }}z{{ m() }}
x{% set q %}a{% generation %}bc{% endgeneration %}d{% endset %}y{{ q }}z
x{% filter upper %}a{% generation %}b{% endgeneration %}{% endfilter %}y
é{% for i in [1,2] %}{% generation %}{{ i }}{% generation %}é{% endgeneration %}{% endgeneration %},{% endfor %}{%
↪ generation %}{% endgeneration %}
{% if true %}p{% generation %}q{% endgeneration %}{% endif %}{% with %}{% generation %}r{% endgeneration %}{% endwith
↪ %}
{% set loop = 5 %}{{ loop }} {% for i in [1] %}{{ loop.index }}{% endfor %}{{ loop }}
{% set range = 5 %}{{ range }} {% set messages = [] %}{{ messages|length }}
↪ {% for messages in [1] %}{{ messages }}{% endfor %}{{ messages }}
{% for i in [1,2,3] if not ns2 %}{{ i }}{% endfor %}
{% for i in [1,2,3,4] if not ns.done %}{{ loop.length }}{% endfor %}
{% for m in messages %}{% if loop.first and m.role != 'system' %}S{% endif %}{{ m['role'] }}{{ '' if loop.last else
↪ ',' }}{% endfor %}
{% for m in messages if m.role == 'user' %}{{ loop.index }}{{ m.content }}{{ loop.nextitem is defined }}{% endfor %}
{% set content = messages[0].content %}{% if '<' in content %}y{% endif %}{% set x = content.split('i')[0] %}{{ x
↪ }}|{{ content[:2] }}|
{% for i in range(3) %}{%- if not loop.last -%} {{ i }}, {%- else -%} {{ i }} {%- endif -%} {% endfor %}
{%- for message in messages -%}⏎  {{- '<' + message['role'] + '>' -}}⏎  {%- if message.content is string -%}⏎   
↪ {{ message.content|trim }}⏎  {%- endif %}⏎{% endfor %}⏎end
a⏎  {% if true %}⏎b⏎  {% endif %}⏎c
a⏎  {%+ if true %}⏎b⏎  {%+ endif %}⏎c
a  {% if true %}  ⏎b{% endif %}  ⏎⏎c
  {{ 1 }}  ⏎  {{- 1 -}}  ⏎ x
  {# c #}  ⏎x {# d -#}   ⏎  y {#- e #}⏎z {#+ f +#}⏎w
{% if true -%}⏎⏎ a {%- endif %}⏎⏎
⏎⏎  {% set x = 1 %}⏎⏎x⏎
{{ "a" }}⏎⏎
x⏎{%- set y = 1 -%}⏎z
	{% if true %}	a{% endif %}
{%-if true-%}a{%-endif-%}b
{{-1}} {{ -1 }} {{- 1 -}} x {{+1}} {{1+}}
{{ 1 -}} {{- 2 }} {{ 3-1-}} x
{%+ if true +%}⏎ a ⏎{%- endif +%}⏎b
 {% raw %} a {% endraw %} ⏎b
 {%- raw %} a {% endraw -%} ⏎b⏎  {% raw -%}  c  {%- endraw %}⏎d
  {% raw %}⏎ a⏎  {% endraw %}⏎b
a {#- c -#} b {# {{ x }} {% if %} #}c{##}d{#-#}e
{# multi⏎line #}⏎a⏎  {# x #}⏎b
{{ '{{' }} {{ '}}' }} {{ "%}" }} {% if '%}' == "%}" %}y{% endif %} {{ {'a': {'b': 1}} }} {{ {'a':{'b':1}}}}
{{ "a" if (1 if true else 2) == 1 else "b" }} {{ [1 if false else 2, 3] }} {{ {'a': 1 if true else 2} }}
{{ not 1 == 2 }} {{ not (1 in [1]) }} {{ 1 not in [1] }} {{ 1 + 1 ~ 2 * 3 ~ 4 }} {{ 1 ~ 2 + 3 }}
↪ {{ 2 * 3 ~ 4 ** 2 }} {{ -1 ** 2 }} {{ 10 - 3 - 2 }} {{ 2 + 3 == 5 and 4 > 3 or false }}
{{ 1 is defined }} {{ foo is defined or true }} {{ foo is not defined and bar is not defined }}
↪ {{ 5 is divisibleby 5 and true }} {{ 'a' is in ['a'] }} {{ [1] is iterable and [1] is not string }}
{{ messages[-1]['role'] }} {{ messages[0].get('content', '')|trim }} {{ messages|length > 2 }}
↪ {{ (messages|last).content }} {{ messages[1:]|map(attribute='role')|join(',') }} {{ messages[::2]|length }}
{{ 'a'.__class__.__mro__ }}
{{ 1 is odd(2) }}
{{ undef is odd }}
⏎⏎{{ 'a' is divisibleby 2 }}
{% macro m(a) %}⏎{{ a.x }}{% endmacro %}⏎{{ m(1) }}⏎⏎{{ m() }}
a⏎{% for i in [1] %}⏎{% set x = i.y.z %}{% endfor %}
a⏎{% set x %}⏎{{ 1 / 0 }}⏎{% endset %}
{% if true %}⏎{% set x, y = 1 %}{% endif %}
⏎{% for i in 5 %}⏎x{% endfor %}
⏎{{ l⏎ | join('x')⏎ | int + 'x' }}
⏎{{ raise_exception('two⏎lines') }}
## Syntax errors
{{ }}
{{ 1 + }}
{{ 1 2 }}
{{ (1 }}
{{ 1) }}
{{ [1 }}
{{ [1, 2 }}
{{ {1} }}
{{ {1:2 }}
{{ {1 2} }}
{{ (1] }}
{{ a b c }}
{{ a.1.b }}
{{ a. }}
{{ a.'x' }}
{{ a.+ }}
{{ a[1 }}
{{ f(1 2) }}
{{ f(a=1, 2) }}
{{ f(*a, *b) }}
{{ f(**a, b) }}
{{ f(**a, b=1) }}
{{ f(*a, b) }}
{{ f(1,) }}
{{ f(,) }}
{{ a | }}
{{ a | 1 }}
{{ a is }}
{{ a is 1 }}
{{ a is not }}
{{ a is defined is none }}
{{ a is odd is odd }}
{{ a if }}
{{ a if b else }}
{{ not }}
{{ a and }}
{{ a == }}
{{ a in }}
{{ a not b }}
{{ a not in }}
{{ = }}
{{ a = 1 }}
{{ @ }}
{{ a ? b }}
{{ a ! b }}
{{ a != b }}
{{ 'abc }}
{{ "abc' }}
{{ ' }}
{{ \ }}
{{ $x }}
{{ a; b }}
{{ a & b }}
{{ é }}|{{ é1 is defined }}
{{ → }}
{{ 1abc }}
{{ 012 }}
{{ 00 }}{{ 0_0 }}
{{ 1__0 }}
{{ 1.e5 }}
{{ .5 }}
{{ 1..2 }}
{{ 5.foo }}|
{{ a
{{ a }
{{ a %}
{% if a }}
{% if a
{% if %}
{% if a b %}
{% if a %}
{% if a %}{% else %}
{% if a %}{% elif %}
{% if a %}{% elif b %}
{% if a %}{% endfor %}
{% if a %}{% endif x %}
{% if a %}{% else %}{% else %}{% endif %}
{% if a %}{% else %}{% elif b %}{% endif %}
{% endif %}
{% else %}
{% for %}
{% for a %}
{% for a in %}
{% for a in b %}
{% for 1 in b %}{% endfor %}
{% for a.b in c %}{% endfor %}
{% for a in b %}{% endif %}
{% for a in b %}{% if c %}{% endfor %}
{% for a, in [[1]] %}{{ a }}{% endfor %}
{% for in x %}{% endfor %}
{% for a in b if %}{% endfor %}
{% for (a, 1) in b %}{% endfor %}
{% for a in 1, 2 %}{{ a }}{% endfor %}
{% for a in [1] if true else [2] %}{% endfor %}
{% set %}
{% set a %}
{% set a = %}
{% set 1 = 2 %}
{% set a + 1 = 2 %}
{% set a.b.c = 1 %}
{% set a[0] = 1 %}
{% set a.1 = 1 %}
{% set 'a' = 1 %}
{% set true = 1 %}
{% set none %}{% endset %}
{% set [a] = [1] %}
{% set {} = 1 %}
{% set a, 1 = 1 %}
{% set a = 1 2 %}
{% set a == 1 %}
{% set a | upper = 1 %}
{% set a | nosuch %}x{% endset %}
{% macro %}{% endmacro %}
{% macro m %}{% endmacro %}
{% macro m( %}{% endmacro %}
{% macro m(1) %}{% endmacro %}
{% macro m(a=1, b) %}{% endmacro %}
{% macro m(a b) %}{% endmacro %}
{% macro m() %}
{% macro m(a,) %}{% endmacro %}
{% filter %}{% endfilter %}
{% filter nosuch %}{% endfilter %}
{% filter upper %}
{% with a %}{% endwith %}
{% with a = 1 b = 2 %}{% endwith %}
{% with 1 = 2 %}{% endwith %}
{% with a = 1 %}
{% generation %}
{% generation x %}{% endgeneration %}
{% endgeneration %}
{% for a in b %}{% generation %}{% break %}{% endgeneration %}{% endfor %}
{% break %}
{% continue %}
{% for a in b %}{% macro m() %}{% break %}{% endmacro %}{% endfor %}
{% for a in [] %}{% else %}{% break %}{% endfor %}
{% for x in [1] %}{% for a in [] %}{% else %}{% break %}{% endfor %}z{% endfor %}
{% foo %}
{% if a %}{% foo %}{% endif %}
{% do x %}
{% 1 %}
{% %}
{% 'a' %}
{%%}
{{}}
{# a
a⏎b {# c
⏎{% raw %} a {% endra %}
{% endraw %}
⏎⏎{{ a b }}
a⏎{% if x %}⏎{{ y|nosuch(1) }}
a⏎{% for x in y %}⏎{{ y|nosuch(1) }}{% endfor %}
{{ y|nosuch }}{{ 1 + }}
{{ a|x.y }}
{{ a is x.y }}
{{ a is in }}
{{ a is not in [1] }}
{{ [1,,2] }}
{{ {,} }}
{{ (,) }}
{{ ,1 }}
{{ f(**) }}
{{ f(*) }}
{{ a[1:2:3:4] }}
{{ 'a' 1 }}
{{ 1 'a' }}
{{ a.b c.d }}
{{ true = 1 }}
{{ loop }}|{{ loop.index }}
{{ super() }}
{{ 'a' if 'b' 'c' else 'd' }}
{% if (a %}
{% if a] %}
{%- if true -%}x{%- endif %
{{ a }}}
{{{ a }}}
{{ {{ a }} }}
{% if a == %}{% endif %}
{% if not %}{% endif %}
{% elif x %}
{% if x %}{% endset %}{% endif %}
{% for i in x %}{% elif %}{% endfor %}
"""


# What the engine refuses by its name: the name, and a template.
REFUSED = r"""
filter 'xmlattr': {{ {'a': 1}|xmlattr }}
filter 'sum': {{ [1]|sum }}
filter 'center': {{ ['a']|map('center', 3)|list }}
filter 'slice': {% if true %}{{ [1, 2]|slice(2) }}{% endif %}
filter 'groupby': {% for a, b in messages|groupby('role') %}{{ a }}{% endfor %}
filter 'random': {{ [1]|random }}
filter 'format': {{ '%s'|format(1) }}
test 'escaped': {{ 'a' is escaped }}
test 'upper': {{ ['A']|select('upper')|list }}
method 'format': {{ '{} {}'.format(1, 2) }}
method 'isdigit': {{ '1'.isdigit() }}
method 'index': {{ [1].index(1) }}
method 'index': {{ (1,).index(1) }}
method 'clear': {{ l.clear() }}
method 'copy': {{ d.copy() }}
string operator '%': {{ '%s' % 1 }}
string operator '%': {{ '%d' % undef }}
argument 'base': {{ '1A'|int(0, 16) }}
number prefix '0x': {{ 0x1F }}
number prefix '0b': {{ 0b1 }}
escape '\N': {{ '\N{BULLET}' }}
escape '\0': {{ '\033' }}
function 'cycler': {% set c = cycler('a', 'b') %}
function 'joiner': {{ joiner() }}
function 'lipsum': {{ lipsum() }}
word 'recursive': {% for i in l recursive %}{{ loop(i) }}{% endfor %}
macro variable 'caller': {% macro m() %}{{ caller() }}{% endmacro %}
macro variable 'varargs': {% macro m() %}{{ varargs }}{% endmacro %}
macro variable 'kwargs': {% macro m() %}{{ kwargs }}{% endmacro %}
tag 'call': {% call m() %}{% endcall %}
tag 'print': {% print 1 %}
tag 'block': {% block a %}{% endblock %}
tag 'include': {% if false %}{% include 'x' %}{% endif %}
tag 'import': {% import 'x' as y %}
tag 'from': {% from 'x' import y %}
tag 'extends': {% extends 'x' %}
tag 'autoescape': {% autoescape true %}{% endautoescape %}
"""


class Generation(Extension):
    tags = {"generation"}
    printed, spans = [], []                       # the pieces of text so far; (first, last + 1) in characters

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return nodes.CallBlock(self.call_method("note"), [], [], body).set_lineno(line)

    def note(self, caller):
        text = caller()
        begin = sum(map(len, Generation.printed))
        Generation.spans.append((begin, begin + len(text)))
        return text


def raise_exception(message):
    raise TemplateError(message)


def strftime_now(format):
    return datetime.datetime(2025, 10, 29, 12).strftime(format)


def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def make_environment():
    env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True,
                                        extensions=[Generation, "jinja2.ext.loopcontrols"])
    env.filters["tojson"] = tojson
    env.globals.update(raise_exception=raise_exception, strftime_now=strftime_now)
    return env


def render(env, source):
    Generation.printed, Generation.spans = [], []
    try:
        for piece in env.from_string(source).generate(**VARIABLES):
            Generation.printed.append(piece)
    except TemplateSyntaxError as e:
        return {"kind": "syntax error", "line": e.lineno, "error": e.message}
    except SyntaxError as e:                      # of the Python code that Jinja made, whose lines are others
        return {"kind": "syntax error", "error": e.msg}
    except Exception as e:
        kinds = [(SecurityError, "security"), (UndefinedError, "undefined"), (TemplateRuntimeError, "runtime"),
                 (TemplateError, "raise")]
        lines = [f.lineno for f in traceback.extract_tb(e.__traceback__) if f.filename == "<template>"]
        return {"kind": next((name for kind, name in kinds if isinstance(e, kind)), "runtime"), "line": lines[-1],
                "error": str(e)}
    text = "".join(Generation.printed)
    return {"text": text, "spans": [[len(text[:at].encode()) for at in span] for span in Generation.spans]}


def main():
    env = make_environment()
    print(json.dumps({"maker": "tests/oracle/jinja.py", "jinja2": jinja2.__version__, "variables": VARIABLES}))
    for line in CASES.replace("\n↪", "").splitlines():
        if line and not line.startswith("## "):
            source = line.replace("⏎", "\n")
            print(json.dumps({"template": source, **render(env, source)}))
    for line in REFUSED.strip().splitlines():
        name, source = line.split(": ", 1)
        print(json.dumps({"template": source, "refused": name}))


main()
