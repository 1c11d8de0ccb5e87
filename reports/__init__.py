"""What to say: sections (data and one sentence), written once as HTML, terminal text or JSON.

Computes no result: what a section shows comes from the rooms below.
"""
