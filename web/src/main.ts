import { mount } from 'svelte';
import './app.css';
import App from './App.svelte';
import { app, show } from './lib/app.svelte.ts';

show(app.theme);
mount(App, { target: document.getElementById('app')! });
