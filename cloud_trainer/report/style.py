"""How the report looks: light and dark, on paper and on a telephone."""

STYLE = """
:root{color-scheme:light dark;--bg:#f5f7fa;--card:#ffffff;--ink:#1f2933;--muted:#616e7c;--grid:#e4e7eb;
--accent:#0b7285;--alarm:#d9480f;--reference:#9aa5b1;--soft:#fff4ec;--calm:#e6f6f4;
--series1:#5f3dc4;--series2:#2b8a3e;--series3:#c2255c}
@media(prefers-color-scheme:dark){:root{--bg:#12161b;--card:#1b2129;--ink:#e6eaef;--muted:#9aa7b5;--grid:#303944;
--accent:#3bc9db;--alarm:#ff8a4c;--reference:#7b8794;--soft:#3a2418;--calm:#12332f;
--series1:#b197fc;--series2:#69db7c;--series3:#f783ac}}
*{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--ink);font:15px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main{max-width:1000px;margin:0 auto;padding:32px 20px 64px}
h1{font-size:27px;line-height:1.25;margin:0 0 4px;overflow-wrap:anywhere}
h2{font-size:18px;margin:0 0 12px}h3{font-size:15px;margin:22px 0 8px}
h2 .step{display:inline-block;min-width:24px;height:24px;line-height:24px;border-radius:12px;text-align:center;
font-size:13px;background:var(--calm);color:var(--accent);margin-right:9px;vertical-align:1px}
p{margin:0 0 8px}.muted,figcaption,footer{color:var(--muted)}.small,figcaption{font-size:13px}
section,.tile{background:var(--card);border:1px solid var(--grid);border-radius:12px}
section{padding:20px 22px;margin-top:16px}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(180px,1fr));gap:12px;margin-top:18px}
.tile{padding:13px 16px}.tile b{display:block;font-size:25px;line-height:1.3}
.pair{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(400px,100%),1fr));gap:20px 28px;align-items:start}
figure{margin:0 0 6px;min-width:0}svg{display:block;width:100%;height:auto}figcaption{margin-top:6px}
.keys{display:flex;flex-wrap:wrap;gap:2px 16px;font-size:13px;margin:0 0 4px}
.key{display:inline-block;width:14px;height:4px;border-radius:2px;margin:0 6px 3px 0}
.scroll{overflow-x:auto;margin-bottom:8px}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums;font-size:14px}
th{color:var(--muted);font-weight:600;font-size:13px;text-align:left;vertical-align:bottom}
th,td{padding:6px 14px 6px 0;border-bottom:1px solid var(--grid)}td{vertical-align:top}
td.n,th.n{text-align:right}td.n{white-space:nowrap}th:last-child,td:last-child{padding-right:0}
tr.best td{background:var(--calm)}tr.best td:first-child{box-shadow:-8px 0 var(--calm)}
.id{white-space:nowrap}td small{color:var(--muted)}
td.w{overflow-wrap:anywhere;min-width:120px}
.meter{display:inline-block;width:110px;height:7px;border-radius:4px;background:var(--grid);overflow:hidden}
.meter i{display:block;height:100%;background:var(--accent)}.meter i.off{background:var(--reference)}
.warning{border-color:var(--alarm);background:var(--soft)}
.good{color:var(--accent);font-weight:600}.bad{color:var(--alarm);font-weight:600}.out{color:var(--muted)}
.gallery{display:grid;grid-template-columns:repeat(auto-fill,minmax(104px,1fr));gap:16px 14px;margin-bottom:12px}
.gallery.wide{grid-template-columns:repeat(auto-fill,minmax(210px,1fr))}
.gallery img{width:100%;image-rendering:pixelated;border-radius:6px;display:block;background:var(--grid)}
.gallery .one>div{font-size:12.5px;line-height:1.35;margin-top:5px;overflow-wrap:anywhere}
.said{color:var(--alarm)}code{font-size:12.5px}footer{margin-top:20px;font-size:13px}
ul{margin:0 0 8px;padding-left:20px}details{margin:4px 0 8px}summary{cursor:pointer;font-weight:600;font-size:14px}
@media(max-width:640px){main{padding:18px 12px 40px}section{padding:16px 14px}h1{font-size:21px}
.tiles{grid-template-columns:1fr 1fr}.tile b{font-size:20px}
figure{overflow-x:auto}svg[viewBox^="0 0 940"]{min-width:640px}}
@media print{body{background:#fff}section,.tile{break-inside:avoid}}
"""
