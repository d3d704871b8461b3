// Google's SDK for Gemini, for Node. See sdk.js.
'use strict';

const { GoogleGenAI } = require('@google/genai');

const sdk = require('./sdk.js');

async function chat(asked, told) {
  const httpOptions = { baseUrl: asked.base };
  if (asked.timeout !== undefined) httpOptions.timeout = 1000 * asked.timeout;
  const { models } = new GoogleGenAI({ apiKey: asked.token, httpOptions });
  const parts = [{ text: sdk.prompt(asked) }];
  if (asked.ask === 'image') parts.push({ inlineData: { mimeType: 'image/png', data: sdk.PNG } });
  const config = { ...asked.fields };
  const declared = sdk.tools(asked).map((name) => ({ name, parametersJsonSchema: sdk.PARAMETERS }));
  if (declared.length) config.tools = [{ functionDeclarations: declared }];
  if (asked.ask === 'object') {
    Object.assign(config, { responseMimeType: 'application/json', responseJsonSchema: sdk.SCHEMA });
  }
  if (asked.ask === 'reasoning') config.thinkingConfig = { includeThoughts: true, thinkingBudget: 1024 };
  const request = { model: asked.model, contents: [{ role: 'user', parts }], config };
  const said = (answer) => (answer.candidates ?? []).flatMap((candidate) => candidate.content?.parts ?? []);
  const answers = [];
  if (asked.stream) {
    for await (const chunk of await models.generateContentStream(request)) {
      answers.push(chunk);
      told.piece(said(chunk).filter((part) => !part.thought).map((part) => part.text ?? '').join(''));
    }
  } else {
    answers.push(await models.generateContent(request));
  }
  Object.assign(told, { text: '', reasoning: '', finish: null });
  for (const answer of answers) {
    for (const part of said(answer)) {
      told[part.thought ? 'reasoning' : 'text'] += part.text ?? '';
      if (part.functionCall) told.call(part.functionCall.name, part.functionCall.args ?? {});
    }
    told.finish = answer.candidates?.[0]?.finishReason ?? told.finish;
    told.model = answer.modelVersion;
    const usage = answer.usageMetadata;
    if (usage) {
      const thought = usage.thoughtsTokenCount ?? 0;
      const made = (usage.candidatesTokenCount ?? 0) + thought;
      told.spent(usage.promptTokenCount, made, usage.cachedContentTokenCount, thought);
    }
  }
}

sdk.main({ chat });
