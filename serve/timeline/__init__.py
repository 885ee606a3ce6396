"""A long video as a picture of what happens when: a page, a picture, subtitles, and tables."""
