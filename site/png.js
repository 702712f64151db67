// A grey PNG of 8 bits with text chunks (W3C PNG, third edition): pixels as bytes in reading order -> Blob.
"use strict";

globalThis.thiscxrPng = (() => {
  const latin1 = (text) => Uint8Array.from(text, (character) => character.charCodeAt(0));

  const table = Uint32Array.from({ length: 256 }, (_, byte) => {
    for (let bit = 0; bit < 8; bit++) byte = (byte >>> 1) ^ (byte & 1 ? 0xedb88320 : 0);
    return byte;
  });

  function crc32(bytes) {
    let crc = ~0;
    for (const byte of bytes) crc = (crc >>> 8) ^ table[(crc ^ byte) & 255];
    return ~crc;
  }

  function chunk(type, data) {
    const bytes = new Uint8Array(12 + data.length), view = new DataView(bytes.buffer);
    view.setUint32(0, data.length);
    bytes.set(latin1(type), 4);
    bytes.set(data, 8);
    view.setInt32(8 + data.length, crc32(bytes.subarray(4, 8 + data.length)));
    return bytes;
  }

  return async (pixels, width, height, texts) => {
    const rows = new Uint8Array(height * (width + 1)); // each row begins with its filter, 0: none
    for (let row = 0; row < height; row++) rows.set(pixels.subarray(row * width, (row + 1) * width), row * (width + 1) + 1);
    const packed = new Response(new Blob([rows]).stream().pipeThrough(new CompressionStream("deflate")));
    const header = new Uint8Array(13);
    new DataView(header.buffer).setUint32(0, width);
    new DataView(header.buffer).setUint32(4, height);
    header[8] = 8; // bits; the zeros after it: grey, deflate, filters by row, not interlaced
    const utf8 = new TextEncoder(); // iTXt: keyword, not compressed, no language, no translated keyword, text
    const marks = Object.entries(texts).map(([name, text]) => chunk("iTXt", utf8.encode(`${name}\0\0\0\0\0${text}`)));
    const parts = [chunk("IHDR", header), ...marks, chunk("IDAT", new Uint8Array(await packed.arrayBuffer())), chunk("IEND", [])];
    return new Blob([Uint8Array.of(137, 80, 78, 71, 13, 10, 26, 10), ...parts], { type: "image/png" });
  };
})();
