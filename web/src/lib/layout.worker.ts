import { arrange, type Question } from './arrange.ts';

self.onmessage = (message: MessageEvent<Question>) => postMessage(arrange(message.data));
