"""The look of the page. Colours of subjects differ in light and in dark, and by most who see colours
differently; the names stand beside them everywhere."""

STYLE = """\
:root {
  --paper: #ffffff; --ink: #1c2024; --soft: #5c6670; --faint: #e3e7eb; --card: #f5f7f9;
  --series-0: #7d8791; --series-1: #1f6fd1; --series-2: #d35400; --series-3: #12805c; --series-4: #8e44ad;
  --series-5: #b8860b; --series-6: #c2307a; --series-7: #0e7c8b;
  --limit: #c3cad1; --stage-0: #12805c; --stage-1: #e0a458; --stage-2: #9a6fb0; --stage-3: #3f77b5;
  --stage-4: #c06c84; --stage-5: #7d8791;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #14171a; --ink: #e6e9ec; --soft: #98a2ad; --faint: #2b3137; --card: #1d2226;
    --series-0: #8b959f; --series-1: #63a4ff; --series-2: #ff9352; --series-3: #4cc79a; --series-4: #c58be8;
    --series-5: #e3b341; --series-6: #f27bb4; --series-7: #4fc1d1;
    --limit: #48515a; --stage-0: #3aa67f; --stage-1: #c98d3f; --stage-2: #b48ac9; --stage-3: #5b93d0;
    --stage-4: #d98aa0; --stage-5: #8b959f;
  }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 860px; margin: 0 auto; padding: 40px 24px 64px; }
h1 { font-size: 28px; line-height: 1.2; margin: 0 0 8px; overflow-wrap: anywhere; }
h2 { font-size: 19px; margin: 0 0 4px; }
header p, section > p, figcaption, small { color: var(--soft); }
header p, section > p { margin: 0 0 12px; max-width: 72ch; }
section { margin-top: 44px; }
pre { background: var(--card); border-radius: 8px; padding: 12px 16px; margin: 0; white-space: pre-wrap;
  overflow-wrap: anywhere; font: 13px/1.5 ui-monospace, monospace; }
figure { margin: 12px 0 0; }
figcaption { font-size: 14px; }
svg { display: block; width: 100%; height: auto; overflow: visible; }
svg text { font: 13px system-ui, sans-serif; fill: var(--ink); font-variant-numeric: tabular-nums; }
svg .tick { fill: var(--soft); font-size: 12px; }
svg .value { font-weight: 600; }
svg .grid { stroke: var(--faint); stroke-width: 1; }
svg .dot { fill-opacity: 0.45; }
svg .median { stroke-width: 3; stroke-linecap: round; }
svg .line { fill: none; stroke-width: 2.5; stroke-linejoin: round; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(180px, 1fr)); gap: 12px; }
.tile { background: var(--card); border-left: 4px solid var(--tile); border-radius: 6px; padding: 12px 14px;
  display: flex; flex-direction: column; }
.tile span { font-size: 14px; }
.tile strong { font-size: 28px; line-height: 1.25; font-variant-numeric: tabular-nums; }
.key { display: flex; flex-wrap: wrap; gap: 4px 18px; list-style: none; margin: 0; padding: 0; font-size: 14px; }
.key i { display: inline-block; width: 11px; height: 11px; border-radius: 2px; margin-right: 6px; }
.wide { overflow-x: auto; margin-top: 16px; }
table { border-collapse: collapse; width: 100%; font-size: 13.5px; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: 5px 8px; white-space: nowrap; border-bottom: 1px solid var(--faint); }
th { font-weight: 600; }
thead th { color: var(--soft); font-weight: 500; }
th:first-child { text-align: left; padding-left: 0; }
section > ul { color: var(--soft); font-size: 14px; padding-left: 20px; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 6px 20px; margin: 0; font-size: 14px; }
dt { color: var(--soft); }
dd { margin: 0; overflow-wrap: anywhere; }
@media (max-width: 560px) { dl { display: block; } dd { margin-bottom: 8px; } main { padding: 24px 16px 40px; } }
@media print { section { break-inside: avoid; } }
"""
