"""How the report looks."""

STYLE = """
:root{color-scheme:light dark;--bg:#f4f6f8;--card:#ffffff;--ink:#1f2933;--muted:#616e7c;--grid:#e4e7eb;
--accent:#0b7285;--alarm:#d9480f;--up:#e8590c;--down:#1c6fb8;--reference:#9aa5b1;--soft:#fff4ec;--calm:#e6f6f4;
--series1:#5f3dc4;--series2:#2b8a3e;--series3:#c2255c}
@media(prefers-color-scheme:dark){:root{--bg:#12161b;--card:#1b2129;--ink:#e6eaef;--muted:#9aa7b5;--grid:#303944;
--accent:#3bc9db;--alarm:#ff8a4c;--up:#ff8a4c;--down:#5aa9ef;--reference:#7b8794;--soft:#3a2418;--calm:#12332f;
--series1:#b197fc;--series2:#69db7c;--series3:#f783ac}}
*{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--ink);font:15px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main{max-width:1000px;margin:0 auto;padding:32px 20px 56px}
h1{font-size:22px;line-height:1.35;margin:12px 0 8px;font-weight:600}
h2{font-size:17px;margin:0 0 12px}h3{font-size:15px;margin:0;display:inline;overflow-wrap:anywhere}
p{margin:0 0 8px}.muted,footer,figcaption,small{color:var(--muted)}.small,figcaption,small{font-size:13px}
.verdict{display:inline-block;padding:3px 12px;border-radius:99px;font-weight:600;font-size:14px}
.changed{background:var(--soft);color:var(--alarm)}.quiet.verdict{background:var(--calm);color:var(--accent)}
section,.tile{background:var(--card);border:1px solid var(--grid);border-radius:12px}
section{padding:20px 22px;margin-top:16px}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(160px,1fr));gap:12px;margin-top:18px}
.tile{padding:12px 16px}.tile span{color:var(--muted);font-size:13px}
.tile b{display:block;font-size:24px;line-height:1.3;white-space:nowrap}.tile small{display:block;line-height:1.35}
figure{margin:0}svg{display:block;width:100%;height:auto}svg.narrow{display:none}
figcaption{margin-top:8px}.keys{display:flex;flex-wrap:wrap;align-items:center;gap:4px 16px;margin:4px 0 6px;
font-size:13px;color:var(--ink)}
.keys span{white-space:nowrap}
details{margin:4px 0 10px}.key{display:inline-block;width:14px;height:4px;border-radius:2px;margin:0 6px 2px 0}
.ramp{display:inline-block;width:120px;height:10px;border-radius:3px;
background:linear-gradient(90deg,var(--down),transparent 48%,transparent 52%,var(--up))}
.cards{display:grid;grid-template-columns:repeat(auto-fill,minmax(260px,1fr));gap:22px 28px;margin-bottom:14px}
.card svg{margin-top:8px}.by{color:var(--alarm);font-weight:600;margin-left:8px;white-space:nowrap}
.card.quiet .by{color:var(--muted);font-weight:400}
.scroll{overflow-x:auto;margin-bottom:10px}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums;font-size:14px}
th{color:var(--muted);font-weight:600;font-size:13px;text-align:left;white-space:nowrap}
th,td{padding:6px 14px 6px 0;border-bottom:1px solid var(--grid);vertical-align:middle}
td.n,th.n{text-align:right;white-space:nowrap}th:last-child,td:last-child{padding-right:0}
.num{display:inline-block;min-width:56px}
.meter,.lean{display:inline-block;position:relative;width:64px;height:6px;border-radius:3px;background:var(--grid);
vertical-align:2px;overflow:hidden}
.meter i,.lean i{position:absolute;top:0;bottom:0;background:var(--reference)}.meter i{left:0}
.meter i.loud,.lean i.up{background:var(--up)}.lean i.down{background:var(--down)}
.limit{display:block;color:var(--alarm)}.tip{text-decoration:underline dotted;cursor:help}
ul{margin:0;padding-left:20px}li{margin-bottom:4px}
summary{cursor:pointer;font-weight:600}dt{font-weight:600;margin-top:10px}dd{margin:0;color:var(--muted)}
footer{margin-top:22px;font-size:13px}code{font-size:12.5px}
@media(max-width:640px){main{padding:18px 12px 40px}section{padding:16px 14px}h1{font-size:19px}
svg.wide{display:none}svg.narrow{display:block}.tiles{grid-template-columns:1fr 1fr}
.tile b{font-size:20px;white-space:normal}}
@media print{body{background:#fff}section,.tile{break-inside:avoid}}
"""
